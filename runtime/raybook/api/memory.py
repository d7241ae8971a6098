"""Memory: what processes refer to, and what keeps each object alive.

An object that is still there is held by something: a variable, an ``Out[n]`` of a notebook, an array that looks into
it, a task that waits for it, another object, another process. ``memory_summary`` tells of this process alone,
``memory`` of all of them, and which variables of this one hold what.
"""

from __future__ import annotations

from collections.abc import Iterator
from html import escape
from typing import Any

from raybook.api import memory_table
from raybook.api.context import started_engine
from raybook.api.holders import holders, namespace_of_user
from raybook.api.inventory import job_rows
from raybook.api.memory_table import NODE_ADDRESS, OBJECT_SIZE, memory_text
from raybook.api.state import cluster_resources, nodes
from raybook.api.survey import surveyed_objects


class MemoryReport:
    """The rows of ``memory``; prints as a table, in notebooks as one with lines. ``silent``: pids of processes that did
    not answer within a second, because code in them holds the interpreter."""

    def __init__(self, rows: list[dict[str, Any]], capacity_bytes: int, silent: list[int], **choices: Any) -> None:
        self.rows = rows
        self.silent = silent
        self._capacity_bytes = capacity_bytes
        self._choices = choices

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return iter(self.rows)

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> dict[str, Any]:
        return self.rows[index]

    def __str__(self) -> str:
        text = memory_text(self.rows, self._capacity_bytes, **self._choices)
        if self.silent:
            pids = ", ".join(map(str, self.silent))
            text += f"\nLeft out: what pid {pids} refers to; they did not answer within a second."
        return text

    __repr__ = __str__

    def _repr_html_(self) -> str:
        return f'<pre style="line-height: 1.2; white-space: pre; overflow-x: auto">{escape(str(self))}</pre>'


def memory(
    *,
    group_by: str = NODE_ADDRESS,
    sort_by: str = OBJECT_SIZE,
    units: str = "MB",
    stats_only: bool = False,
    num_entries: int | None = None,
) -> MemoryReport:
    """Every object that any process of the cluster refers to, a row for each process that does.

    group_by: NODE_ADDRESS or STACK_TRACE (the line of code that made it). sort_by: OBJECT_SIZE, PID or REFERENCE_TYPE.
    units: B, KB, MB or GB. num_entries: of each group. Rows have what ``memory_summary`` tells, and ip, type (DRIVER or
    WORKER), reference_type (Ray's words), call_site ("disabled" where lines are not recorded) and held_by: the variables
    of *this* process that hold it.

    ValueError for other choices; RuntimeError when nothing was started. Cost: one round trip through every process, and
    0.3 µs for each variable and element looked at.
    """
    memory_table.check_choices(group_by, sort_by, units, num_entries)
    survey = surveyed_objects()
    mine = started_engine().client_id.hex()
    names = holders(namespace_of_user())
    addresses = {node["NodeID"]: node["NodeManagerAddress"] for node in nodes()}
    drivers = {job["pid"] for job in job_rows() if not job["ended_ms"]}

    def held_by(row: dict[str, Any]) -> list[str]:
        return names.get(bytes.fromhex(row["object_id"]), []) if row["asked_worker_id"] == mine else []

    rows = memory_table.reference_rows(survey.rows, addresses, drivers, held_by)
    capacity = int(cluster_resources().get(memory_table.STORE_RESOURCE, 0))
    return MemoryReport(
        rows, capacity, survey.silent, group_by=group_by, sort_by=sort_by, units=units, stats_only=stats_only,
        num_entries=num_entries,
    )  # fmt: skip


def memory_summary() -> list[dict[str, Any]]:
    """One dict an object that this process owns or borrows, the largest first. RuntimeError when nothing was started.

    object_id, owner_id: hexadecimal. kind: INLINE (in this process), IN_ARENA (shared memory), ON_DISK, FAILED, PENDING.
    size_bytes: 0 while it is unknown. is_owned: made by this process. references: ObjectRefs here. views: arrays and the
    like that look into it. arguments: unfinished tasks that take it. contained_in: values that hold a reference to it.
    borrowers: ids of other processes that hold it. task: what makes it, while that is known. call_site: the line of code
    that made it, where that is recorded. path: its file. node_id: the node it lies on, "" for what lies on none.

    Cost: 3 µs an object, while nothing else of raybook in this process moves.
    """
    return started_engine().memory()
