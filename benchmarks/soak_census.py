"""Soak's census: what a cluster and its driver hold at one moment of rest, and whether that has grown.

Reads /proc alone, so that nothing is asked of whoever is counted; the driver's own tables, which only it can see, are
walked by `table_sizes`. A census says nothing about work in progress: take it when all of it is let go.
"""

from __future__ import annotations

import os
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

KEPT = ("_stats", "facts.ring")
"""Tables that grow by design: a row for each function that was ever defined, and the bounded ring of ended tasks."""


@dataclass(frozen=True)
class Bound:
    """How much a figure may grow from the first third of the judged laps to the last, by their medians."""

    title: str
    growth_max: float
    unit: str = ""


BOUNDS: dict[str, Bound] = {
    "driver_pss_mb": Bound("driver, memory (PSS)", 15.0, "MB"),
    "head_pss_mb": Bound("head, memory (PSS)", 15.0, "MB"),
    "zygote_pss_mb": Bound("zygote, memory (PSS)", 4.0, "MB"),
    "driver_fds": Bound("driver, open files", 4),
    "head_fds": Bound("head, open files", 6),
    "driver_threads": Bound("driver, threads", 1),
    "head_threads": Bound("head, threads", 2),
    "processes": Bound("processes of the cluster", 4),
    "session_files": Bound("files in the session's folder, logs aside", 8),
    "arena_excess_mb": Bound("shared memory beyond the store's size", 1.0, "MB"),
    "spill_mb": Bound("spilled to disk", 1.0, "MB"),
    "driver_records": Bound("rows in the driver's tables", 200),
}
"""What is judged. Memory has room for fragmentation and for rings that fill (10,000 ended tasks are 6 MB)."""


@dataclass(frozen=True)
class Census:
    """One moment of rest."""

    at_s: float
    figures: dict[str, float]
    tables: dict[str, int] = field(default_factory=dict)


def take(at_s: float, head_pid: int, session: Path, store_bytes: int, roots: Mapping[str, Any]) -> Census:
    """Count. roots: objects of this process whose tables are walked, by name."""
    head = psutil.Process(head_pid)
    below = head.children(recursive=True)
    zygotes = [process for process in below if _is_zygote(process)]
    tables = {}
    for name, root in roots.items():
        tables.update(table_sizes(root, name))
    files = [path for path in session.rglob("*") if path.is_file() or path.is_socket()]
    spilled = [path for path in files if "spill" in str(path.relative_to(session))]
    pages = arena_mb(head_pid)
    figures = {
        "driver_pss_mb": pss_mb(os.getpid()),
        "head_pss_mb": pss_mb(head_pid),
        "zygote_pss_mb": sum(pss_mb(zygote.pid) for zygote in zygotes),
        "driver_fds": _count(f"/proc/{os.getpid()}/fd"),
        "head_fds": _count(f"/proc/{head_pid}/fd"),
        "driver_threads": _count(f"/proc/{os.getpid()}/task"),
        "head_threads": _count(f"/proc/{head_pid}/task"),
        "processes": 1 + len(below),
        "session_files": sum("logs" not in path.relative_to(session).parts for path in files),
        "log_files": sum("logs" in path.relative_to(session).parts for path in files),
        "arena_mb": pages,
        "arena_excess_mb": max(0.0, pages - store_bytes / 1e6),
        "spill_mb": sum(path.stat().st_size for path in spilled) / 1e6,
        "driver_records": sum(size for path, size in tables.items() if not path.endswith(KEPT)),
    }
    return Census(at_s, {name: float(value) for name, value in figures.items()}, tables)


def pss_mb(pid: int) -> float:
    """The proportional set size without the store's pages, which are counted by themselves; 0 for a process that ended."""
    total = shared_kb = 0
    try:
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                total = int(line.split()[1])
            elif line.startswith("Pss_Shmem:"):
                shared_kb = int(line.split()[1])
    except (FileNotFoundError, ProcessLookupError):
        return 0.0
    return (total - shared_kb) / 1024


def arena_mb(pid: int) -> float:
    """Pages that the store's memory file holds now."""
    for entry in Path(f"/proc/{pid}/fd").iterdir():
        try:
            if "memfd:raybook" in os.readlink(entry):
                return os.stat(entry).st_blocks * 512 / 1e6
        except FileNotFoundError:
            continue
    return 0.0


def table_sizes(root: Any, name: str) -> dict[str, int]:
    """Sizes of every collection that an object of raybook's reaches through attributes, by path. Pure Python, so it sees
    what a profiler of bytes does not: a row that is kept for no reason."""
    sizes: dict[str, int] = {}
    seen: set[int] = set()
    queue = [(root, name)]
    while queue:
        value, path = queue.pop()
        if id(value) in seen:
            continue
        seen.add(id(value))
        if isinstance(value, (dict, list, set)) or type(value).__name__ == "deque":
            sizes[path] = len(value)
        elif type(value).__module__.startswith("raybook") and not isinstance(value, type):
            queue += [(child, f"{path}.{key}") for key, child in _attributes(value)]
    return sizes


def _attributes(value: Any) -> list[tuple[str, Any]]:
    names = list(getattr(value, "__dict__", {}))
    for kind in type(value).__mro__:
        slots = getattr(kind, "__slots__", ())
        names += [slots] if isinstance(slots, str) else list(slots)
    return [(key, getattr(value, key)) for key in names if not key.startswith("__") and hasattr(value, key)]


def _is_zygote(process: psutil.Process) -> bool:
    try:
        return "raybook.worker.zygote" in process.cmdline() and "IDLE" not in process.name()
    except (psutil.NoSuchProcess, psutil.AccessDenied, psutil.ZombieProcess):
        return False


def _count(folder: str) -> int:
    return len(os.listdir(folder))


@dataclass(frozen=True)
class Verdict:
    """One judged figure. ``growth``: of its median, first third to last third of the judged laps."""

    title: str
    first: float
    last: float
    largest: float
    growth_max: float
    unit: str

    @property
    def growth(self) -> float:
        return self.last - self.first

    @property
    def is_flat(self) -> bool:
        return self.growth <= self.growth_max


def judge(laps: Sequence[Census]) -> list[Verdict]:
    """The verdict on every bounded figure. laps: those after the warm-up, at least three."""
    if len(laps) < 3:
        raise ValueError(f"{len(laps)} laps tell nothing about growth; three are the least.")
    third = max(1, len(laps) // 3)
    verdicts = []
    for key, bound in BOUNDS.items():
        values = [lap.figures[key] for lap in laps]
        first, last = statistics.median(values[:third]), statistics.median(values[-third:])
        verdicts.append(Verdict(bound.title, first, last, max(values), bound.growth_max, bound.unit))
    return verdicts


def grown_tables(laps: Sequence[Census], count: int = 8) -> list[tuple[str, int, int]]:
    """The tables that grew most between the first and the last of the laps: (path, then, now)."""
    first, last = laps[0].tables, laps[-1].tables
    grown = [(path, first.get(path, 0), size) for path, size in last.items() if size > first.get(path, 0)]
    return sorted(grown, key=lambda row: row[1] - row[2])[:count]
