"""Usage report: what this node's processes, processors and GPUs use, as rows for a survey. In a thread: NVML takes its time.

A row has one of the keys ``process`` (raylet, driver or worker), ``node`` or ``gpu``; see ``io/usage`` and ``io/gpu``.
"""

from __future__ import annotations

import os
from typing import Any

from raybook.io.gpu import gpu_usage
from raybook.io.usage import node_cpu, process_usage

RAYLET = "raylet"


def usage_rows(clients: list[tuple[str, int]]) -> list[dict[str, Any]]:
    """clients: (driver or worker, pid)."""
    rows: list[dict[str, Any]] = [{"node": True, **node_cpu()}]
    for kind, pid in [(RAYLET, os.getpid()), *clients]:
        used = process_usage(pid)
        if used is not None:
            rows.append({"process": kind, "pid": pid, **used})
    return rows + [{"gpu": row.pop("index"), **row} for row in gpu_usage()]
