"""What this machine has: processors, memory, GPUs, as far as *we* may use them.

Reads affinity masks, control groups and device files. NVML is asked only where the driver's device file exists, because
importing it costs start-up time.
"""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
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


def gpu_count(environ: Mapping[str, str] = os.environ) -> int:
    """GPUs this process may use: those in CUDA_VISIBLE_DEVICES if it is set, else all that NVML knows."""
    visible = environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        names = [name.strip() for name in visible.split(",")]
        chosen = names[: names.index("-1")] if "-1" in names else names
        return len([name for name in chosen if name])
    if not os.path.exists("/dev/nvidiactl"):
        return 0
    return _nvml_count()


def _nvml_count() -> int:
    try:
        import pynvml  # Optional, and slow to import where there is no GPU.
    except ImportError:
        return len([name for name in os.listdir("/dev") if name.startswith("nvidia") and name[6:].isdigit()])
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        return 0
    try:
        return int(pynvml.nvmlDeviceGetCount())
    finally:
        pynvml.nvmlShutdown()


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
