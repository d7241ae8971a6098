"""Plan: the list of rows in the order in which they are run and printed, with group, unit and goal.

Decides what is measured together: the rows of a group share one cluster, and groups take turns between the engines, so
that both meet the same weather on a shared machine. Knows nothing of processes.

Goals are those of the architecture's section on speed; they hold for the machine measured there, ratios hold anywhere.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from types import ModuleType

from . import rows
from .figures import TIME_UNIT, Figure

STARTUP = "start-up"
"""The group whose rows are measured in a fresh interpreter each time (`startup_probe.py`)."""


@dataclass(frozen=True)
class Row:
    """One row of the table.

    goal: in `unit`; None where the architecture sets none. goal_of_memcpy: the goal as a share of the bandwidth of
    memcpy in the same run. once: the row means something only the first time on a fresh cluster, so it is not repeated
    there.
    """

    key: str
    title: str
    group: str
    function: Callable[[ModuleType, float], Figure] | None
    unit: str = "/s"
    goal: float | None = None
    goal_of_memcpy: float | None = None
    once: bool = False


ROWS: tuple[Row, ...] = (
    Row("import", "import", STARTUP, None, TIME_UNIT, 0.12),
    Row("init", "init", STARTUP, None, TIME_UNIT, 0.3),
    Row("first_task", "first task", STARTUP, None, TIME_UNIT, 0.03),
    Row("shutdown", "shutdown", STARTUP, None, TIME_UNIT, 0.2),
    Row("put_large_cold", "put large, cold", "objects", rows.put_large_cold, "GB/s", 2.5, once=True),
    Row("put_large_warm", "put large, warm", "objects", rows.put_large_warm, "GB/s", goal_of_memcpy=0.8),
    Row("put_large_first_of_worker", "put large, new worker", "objects", rows.put_large_first_of_worker, "GB/s", 5.0),
    Row("small_get", "small get", "objects", rows.small_get, goal=400_000),
    Row("small_put", "small put", "objects", rows.small_put, goal=120_000),
    Row("put_1mib", "put 1 MiB", "objects", rows.put_1mib, goal=7_000),
    Row("get_50mib", "50 MiB get", "objects", rows.get_50mib, goal=150_000),
    Row("get_10k_refs", "object with 10k refs", "objects", rows.get_10k_refs, goal=80),
    Row("task_sync", "task sync", "tasks", rows.task_sync, goal=12_000),
    Row("task_async", "task async", "tasks", rows.task_async, goal=60_000),
    Row("submit_and_wait_1k", "submit-and-wait 1k", "tasks", rows.submit_and_wait_1k, goal=30_000),
    Row("argument_1mib", "1 MiB argument", "tasks", rows.argument_1mib, goal=30_000),
    Row("return_1mib", "returning 1 MiB", "tasks", rows.return_1mib, goal=5_000),
    Row("nested_submit", "nested submit", "tasks", rows.nested_submit, goal=30_000),
    Row("dependency_chain", "dependency chain", "tasks", rows.dependency_chain, goal=12_000),
    Row("actor_sync", "actor sync", "actors", rows.actor_sync, goal=12_000),
    Row("actor_async", "actor async", "actors", rows.actor_async, goal=70_000),
    Row("actor_n_to_n", "n:n actors", "actors", rows.actor_n_to_n, goal=50_000),
    Row("async_actor_sync", "async actor sync", "actors", rows.async_actor_sync, goal=10_000),
    Row("async_actor_async", "async actor async", "actors", rows.async_actor_async, goal=40_000),
    Row("actor_create_call_kill", "actor create+call+kill", "actors", rows.actor_create_call_kill, goal=100),
    Row("placement_group", "placement group create+remove", "actors", rows.placement_group_create_remove, goal=3_000),
)

ROW_BY_KEY = {row.key: row for row in ROWS}
GROUPS = tuple(dict.fromkeys(row.group for row in ROWS))


def select(keys: list[str] | None) -> tuple[Row, ...]:
    """The rows of the given keys or groups, in table order; all for None. Raises ValueError naming an unknown key."""
    if keys is None:
        return ROWS
    unknown = [key for key in keys if key not in ROW_BY_KEY and key not in GROUPS]
    if unknown:
        known = ", ".join((*GROUPS, *ROW_BY_KEY))
        raise ValueError(f"There is no row or group called {', '.join(unknown)}. Known are: {known}.")
    return tuple(row for row in ROWS if row.key in keys or row.group in keys)


def goal_of(row: Row, memcpy_gb_per_s: float) -> float | None:
    return row.goal_of_memcpy * memcpy_gb_per_s if row.goal_of_memcpy is not None else row.goal
