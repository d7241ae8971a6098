"""What this machine has of processors and memory, as far as *we* may use them (``gpu`` knows the GPUs).

Reads affinity masks and control groups.
"""

from __future__ import annotations

import math
import os
from pathlib import Path

CGROUP = Path("/sys/fs/cgroup")
UNLIMITED_BYTES = 1 << 60


def cpu_count() -> int:
    """Processors this process may run on, no more than its control group's quota (rounded up), at least one."""
    count = len(os.sched_getaffinity(0))
    quota = _cpu_quota()
    return max(1, min(count, math.ceil(quota))) if quota else count


def memory_bytes() -> int:
    """Memory this process may use: the machine's, or its control group's limit."""
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    for path in (CGROUP / "memory.max", CGROUP / "memory" / "memory.limit_in_bytes"):
        text = _read(path)
        if text.isdigit() and int(text) < UNLIMITED_BYTES:
            total = min(total, int(text))
    return total


def _cpu_quota() -> float:
    """The control group's limit in processors, 0 for none."""
    words = _read(CGROUP / "cpu.max").split()
    if len(words) == 2 and words[0].isdigit():
        return int(words[0]) / int(words[1])
    quota = _read(CGROUP / "cpu" / "cpu.cfs_quota_us")
    period = _read(CGROUP / "cpu" / "cpu.cfs_period_us")
    return int(quota) / int(period) if quota.isdigit() and period.isdigit() else 0.0


def _read(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""
