"""Memory of this node: how much is left, and how often the kernel had to end somebody (``hardware`` knows how much).

Knows control groups (version 2 and 1) and /proc/meminfo. All amounts in bytes.
"""

from __future__ import annotations

from pathlib import Path

CGROUP = Path("/sys/fs/cgroup")
UNLIMITED_BYTES = 1 << 60
"""Version 1 says "no limit" by a number near 2**63, rounded to pages."""


def available_bytes(cgroup: Path = CGROUP, meminfo: Path = Path("/proc/meminfo")) -> int:
    """Memory that could be used now without swapping; page cache of files counts as free. Cost: 40 µs."""
    free = _meminfo(meminfo)["MemAvailable"]
    limit = _limit(cgroup)
    if limit is None:
        return free
    used = _number(cgroup / "memory.current")
    if used is None:
        used = _number(cgroup / "memory" / "memory.usage_in_bytes") or 0
    stat = _words(cgroup / "memory.stat") or _words(cgroup / "memory" / "memory.stat")
    reclaimable = stat.get("inactive_file", stat.get("total_inactive_file", 0))
    return max(0, min(free, limit - used + reclaimable))


def out_of_memory_kills(cgroup: Path = CGROUP) -> int:
    """How often the kernel ended a process of our control group for want of memory; 0 where it does not tell."""
    return _words(cgroup / "memory.events").get("oom_kill", 0) or _words(cgroup / "memory" / "memory.oom_control").get(
        "oom_kill", 0
    )


def _limit(cgroup: Path) -> int | None:
    for path in (cgroup / "memory.max", cgroup / "memory" / "memory.limit_in_bytes"):
        limit = _number(path)
        if limit is not None and limit < UNLIMITED_BYTES:
            return limit
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
