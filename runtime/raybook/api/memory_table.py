"""Memory table: the references of a cluster as text, in the form of ``ray memory``. Pure: rows in, lines out.

A row is one object as one process refers to it: ``object_id size_bytes kind reference_type call_site owner_pid type ip
held_by``, see ``memory``.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from typing import Any

Row = dict[str, Any]

NODE_ADDRESS, STACK_TRACE = "NODE_ADDRESS", "STACK_TRACE"
GROUPINGS = (NODE_ADDRESS, STACK_TRACE)
PID, OBJECT_SIZE, REFERENCE_TYPE = "PID", "OBJECT_SIZE", "REFERENCE_TYPE"
SORTINGS = (PID, OBJECT_SIZE, REFERENCE_TYPE)
UNITS = {"B": 1, "KB": 2**10, "MB": 2**20, "GB": 2**30}

KINDS = (
    ("LOCAL_REFERENCE", "Local References"),
    ("PINNED_IN_MEMORY", "Pinned"),
    ("USED_BY_PENDING_TASK", "Used by task"),
    ("CAPTURED_IN_OBJECT", "Captured in Objects"),
)
HEADINGS = ("IP Address", "PID", "Type", "Call Site", "Status", "Size", "Reference Type", "Object Ref", "Held By")
SITES_ARE_OFF = "Call sites are not recorded here: set RAYBOOK_RECORD_REF_CREATION_SITES=1 before the cluster starts."
OFF = "disabled"
STORE_RESOURCE = "object_store_memory"


def check_choices(group_by: str, sort_by: str, units: str, num_entries: int | None) -> None:
    """ValueError for what is none of the choices."""
    for name, value, known in (
        ("group_by", group_by, GROUPINGS),
        ("sort_by", sort_by, SORTINGS),
        ("units", units, tuple(UNITS)),
    ):
        if value not in known:
            raise ValueError(f"{name}={value!r} is none of {', '.join(known)}.")
    if num_entries is not None and num_entries < 1:
        raise ValueError(f"num_entries={num_entries} shows nothing; leave it out to see all.")


def reference_type(row: Row) -> str:
    """Ray's word for how a process refers to an object."""
    if row["arguments"]:
        return "USED_BY_PENDING_TASK"
    if row["contained_in"] and not row["references"]:
        return "CAPTURED_IN_OBJECT"
    return "PINNED_IN_MEMORY" if row["views"] and row["kind"] == "IN_ARENA" else "LOCAL_REFERENCE"


def reference_rows(
    surveyed: Iterable[Row],
    addresses: Mapping[str, str],
    drivers: Container[int],
    held_by: Callable[[Row], list[str]] = lambda row: [],
) -> list[Row]:
    """Rows of ``surveyed_objects`` as this page has them, the largest first. addresses: of nodes, by id. drivers: their
    pids. held_by: names of variables. Who holds an object of somebody else's, and has not read it, does not know its
    size; its owner does."""
    told = list(surveyed)
    owned = {row["object_id"]: row for row in told if row["is_owned"]}
    known = ("kind", "size_bytes", "call_site")
    for row in told:
        if row["kind"] == "PENDING" and row["object_id"] in owned:
            row.update((name, owned[row["object_id"]][name]) for name in known)
    rows = [
        {
            **row,
            "size_bytes": -1 if row["kind"] == "PENDING" else row["size_bytes"],
            "reference_type": reference_type(row),
            "call_site": row["call_site"] or OFF,
            "type": "DRIVER" if row["owner_pid"] in drivers else "WORKER",
            "ip": addresses.get(row["owner_node_id"], ""),
            "held_by": held_by(row),
        }
        for row in told
    ]
    return sorted(rows, key=lambda row: (-row["size_bytes"], row["object_id"]))


def memory_text(
    rows: Sequence[Row],
    capacity_bytes: int,
    *,
    group_by: str = NODE_ADDRESS,
    sort_by: str = OBJECT_SIZE,
    units: str = "MB",
    stats_only: bool = False,
    num_entries: int | None = None,
) -> str:
    """The whole page. Errors: see ``check_choices``. Cost: 10 µs a row."""
    check_choices(group_by, sort_by, units, num_entries)
    store = _store_lines(rows, capacity_bytes, units)
    if stats_only:
        return "\n".join(store)
    lines = ["======== Object references status ========"]
    shown = "all" if num_entries is None else str(num_entries)
    lines.append(
        f"Grouping by {_words(group_by)}...    Sorting by {_words(sort_by)}...    Display {shown} entries per group..."
    )
    for name, members in _groups(rows, group_by):
        lines += ["", "", f"--- Summary for {_words(group_by)}: {name} ---", *_summary(members, units)]
        lines += ["", f"--- Object references for {_words(group_by)}: {name} ---"]
        lines += _table(_sorted(members, sort_by)[:num_entries], units)
    if any(row["call_site"] == OFF for row in rows):
        lines += ["", SITES_ARE_OFF]
    return "\n".join([*lines, "", *store])


def size_text(size_bytes: int, units: str) -> str:
    """ "12.0 MB"; "?" while it is unknown."""
    return "?" if size_bytes < 0 else f"{size_bytes / UNITS[units]:.1f} {units}"


def _words(name: str) -> str:
    return name.lower().replace("_", " ")


def _groups(rows: Iterable[Row], group_by: str) -> list[tuple[str, list[Row]]]:
    groups: dict[str, list[Row]] = {}
    for row in rows:
        groups.setdefault(row["ip" if group_by == NODE_ADDRESS else "call_site"], []).append(row)
    return sorted(groups.items(), key=lambda item: -sum(max(0, row["size_bytes"]) for row in item[1]))


def _sorted(rows: list[Row], sort_by: str) -> list[Row]:
    if sort_by == PID:
        return sorted(rows, key=lambda row: (row["owner_pid"], -row["size_bytes"]))
    if sort_by == REFERENCE_TYPE:
        return sorted(rows, key=lambda row: (row["reference_type"], -row["size_bytes"]))
    return sorted(rows, key=lambda row: (-row["size_bytes"], row["object_id"]))


def _summary(rows: list[Row], units: str) -> list[str]:
    cells = [("Mem Used by Objects", size_text(sum(max(0, row["size_bytes"]) for row in rows), units))]
    for kind, title in KINDS:
        sizes = [max(0, row["size_bytes"]) for row in rows if row["reference_type"] == kind]
        cells.append((title, f"{len(sizes)}, ({size_text(sum(sizes), units)})"))
    return _aligned([tuple(title for title, _ in cells), tuple(text for _, text in cells)])


def _table(rows: list[Row], units: str) -> list[str]:
    body = [
        (
            row["ip"],
            str(row["owner_pid"]),
            row["type"].capitalize(),
            row["call_site"],
            row["kind"],
            size_text(row["size_bytes"], units),
            row["reference_type"],
            row["object_id"],
            ", ".join(row["held_by"]),
        )
        for row in rows
    ]
    return _aligned([HEADINGS, *body])


def _aligned(rows: list[tuple[str, ...]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join(map(str.ljust, row, widths)).rstrip() for row in rows]


def _store_lines(rows: Iterable[Row], capacity_bytes: int, units: str) -> list[str]:
    """Objects are counted once, however many processes refer to them."""
    sizes = {row["object_id"]: (row["kind"], max(0, row["size_bytes"])) for row in rows}
    here = [size for kind, size in sizes.values() if kind == "IN_ARENA"]
    disk = [size for kind, size in sizes.values() if kind == "ON_DISK"]
    full = sum(here) / capacity_bytes if capacity_bytes else 0.0
    lines = [
        "--- Aggregate object store stats across all nodes ---",
        f"Object store memory usage {size_text(sum(here), units)}, {len(here)} objects, {full:.2%} full",
    ]
    if disk:
        lines.append(f"On disk {size_text(sum(disk), units)}, {len(disk)} objects")
    return lines
