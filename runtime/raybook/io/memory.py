"""Memory of this node: how much is in use and may be, what single processes hold, and how often the kernel had to end
somebody (``hardware`` knows how much there is).

Knows control groups (version 2 and 1), /proc/meminfo and /proc/PID. All amounts in bytes. The page cache of files counts
as free, because the kernel gives it up by itself; shared memory does not.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from raybook.io.process import descendants

CGROUP = Path("/sys/fs/cgroup")
OWN_CGROUPS = Path("/proc/self/cgroup")
MEMINFO = Path("/proc/meminfo")
UNLIMITED_BYTES = 1 << 60
"""Version 1 says "no limit" by a number near 2**63, rounded to pages."""
PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


@dataclass(slots=True, frozen=True)
class MemoryUse:
    """used_bytes of limit_bytes. whose: of what, for people."""

    used_bytes: int
    limit_bytes: int
    whose: str

    @property
    def share(self) -> float:
        return self.used_bytes / self.limit_bytes if self.limit_bytes else 0.0


class NodeMemory:
    """Reads how full the tightest bound on this process is: the machine, or a control group that it is in."""

    def __init__(self, cgroup: Path = CGROUP, own: Path = OWN_CGROUPS, meminfo: Path = MEMINFO) -> None:
        self._meminfo = meminfo
        self._folders = _folders(cgroup, own)

    def read(self) -> MemoryUse:
        """Cost: 60 µs, and 60 µs more for each control group with a limit. Blocks as little as memory files do."""
        words = _meminfo(self._meminfo)
        total = words["MemTotal"]
        uses = [MemoryUse(total - words["MemAvailable"], total, "the machine's memory")]
        for folder in self._folders:
            limit = _first_number(folder, "memory.max", "memory.limit_in_bytes")
            if limit is None or limit >= UNLIMITED_BYTES:
                continue
            used = _first_number(folder, "memory.current", "memory.usage_in_bytes")
            if used is None:
                continue
            stat = _words(folder / "memory.stat")
            cached = sum(stat.get(f"total_{name}", stat.get(name, 0)) for name in ("inactive_file", "active_file"))
            uses.append(MemoryUse(max(0, used - cached), min(limit, total), "its control group's memory"))
        return max(uses, key=lambda use: use.share)


def private_bytes(pid: int) -> int:
    """Memory that would come back if this process ended; 0 when there is none. What it shares with others (the object
    store, files) is not counted; pages that a fork has not written to are, once for each process. Cost: 10 µs."""
    try:
        with open(f"/proc/{pid}/statm", "rb") as file:
            fields = file.read().split()
    except OSError:
        return 0
    return (int(fields[1]) - int(fields[2])) * PAGE_BYTES if len(fields) > 2 else 0


def family_bytes(pids: Iterable[int]) -> dict[int, int]:
    """``private_bytes`` of each process with its descendants, except those that are in ``pids`` themselves.
    Cost: 40 µs a process."""
    named = frozenset(pids)
    sizes = {}
    for pid in named:
        children = (child for child in descendants(pid) if child not in named)
        sizes[pid] = private_bytes(pid) + sum(private_bytes(child) for child in children)
    return sizes


def out_of_memory_kills(cgroup: Path = CGROUP) -> int:
    """How often the kernel ended a process of our control group for want of memory; 0 where it does not tell."""
    return _words(cgroup / "memory.events").get("oom_kill", 0) or _words(cgroup / "memory" / "memory.oom_control").get(
        "oom_kill", 0
    )


def _folders(cgroup: Path, own: Path) -> list[Path]:
    """Every group that this process is in, from its own to the outermost. Inside a container the paths that /proc tells
    may be the host's, which do not exist here; what is mounted is then the container's own group."""
    try:
        lines = own.read_text().splitlines()
    except OSError:
        lines = []
    folders: dict[Path, None] = {}
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers and "memory" not in controllers.split(","):
            continue
        root = cgroup / "memory" if controllers else cgroup
        folder = root / path.lstrip("/")
        while folder != root and root in folder.parents:
            if folder.is_dir():
                folders[folder] = None
            folder = folder.parent
    folders[cgroup] = None
    folders[cgroup / "memory"] = None
    return [folder for folder in folders if folder.is_dir()]


def _first_number(folder: Path, *names: str) -> int | None:
    for name in names:
        number = _number(folder / name)
        if number is not None:
            return number
    return None


def _number(path: Path) -> int | None:
    try:
        text = path.read_text().strip()
    except OSError:
        return None
    return int(text) if text.isdigit() else None


def _words(path: Path) -> dict[str, int]:
    try:
        lines = path.read_text().splitlines()
    except OSError:
        return {}
    pairs = (line.split() for line in lines)
    return {pair[0]: int(pair[1]) for pair in pairs if len(pair) == 2 and pair[1].isdigit()}


def _meminfo(path: Path) -> dict[str, int]:
    pairs = (line.split() for line in path.read_text().splitlines())
    return {pair[0].rstrip(":"): int(pair[1]) * 1024 for pair in pairs if len(pair) == 3}
