"""Usage: what processes and this node have used, from the kernel's books: no interpreter is asked, so none can be busy.

Seconds of processors only grow; whoever wants a share of a core takes two readings. Cost: 20 µs a process.
"""

from __future__ import annotations

import os
from typing import Any

TICKS_PER_S = os.sysconf("SC_CLK_TCK")
PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


def process_usage(pid: int) -> dict[str, Any] | None:
    """``name`` (as the kernel shows it), ``cpu_s`` (of all threads), ``rss_bytes``; None when there is no such process."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            before, _, after = file.read().rpartition(b")")
    except (FileNotFoundError, ProcessLookupError):
        return None
    fields = after.split()
    name = before.partition(b"(")[2].decode("utf-8", "replace")
    cpu_s = (int(fields[11]) + int(fields[12])) / TICKS_PER_S
    return {"name": name, "cpu_s": cpu_s, "rss_bytes": int(fields[21]) * PAGE_BYTES}


def node_cpu() -> dict[str, float]:
    """Seconds that all processors of this machine have been busy, and have been there, since boot."""
    with open("/proc/stat", "rb") as file:
        ticks = [int(field) for field in file.readline().split()[1:9]]
    idle = ticks[3] + ticks[4]
    return {"busy_s": (sum(ticks) - idle) / TICKS_PER_S, "total_s": sum(ticks) / TICKS_PER_S}
