"""Machine: what a figure was taken on, and what the memory of that machine can do.

Two runs can be compared only through ratios taken in one run; this line says why two absolute figures differ.
"""

from __future__ import annotations

import os
import platform
import subprocess
import time
from pathlib import Path

import numpy as np

PROJECT_ROOT = Path(__file__).resolve().parent.parent


def cpu_model() -> str:
    """The name the kernel gives the processor; the architecture where it gives none."""
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def commit() -> str:
    """The short hash of the checkout, marked where it has changes; "no commit" outside a repository."""
    described = subprocess.run(
        ["git", "describe", "--always", "--dirty", "--abbrev=10"],
        cwd=PROJECT_ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    return described.stdout.strip() or "no commit"


def machine_line() -> str:
    parts = (
        cpu_model(),
        f"{os.cpu_count()} cores",
        f"Python {platform.python_version()}",
        f"Linux {platform.release()}",
        f"commit {commit()}",
        f"load before the run {os.getloadavg()[0]:.1f}",
    )
    return " · ".join(parts)


def touch_memory(size_bytes: int) -> None:
    """Write every page of `size_bytes` once and give them back.

    On a virtual machine the first touch of a page since boot is paid to the host and costs several times the later
    ones; without this, whichever engine runs first pays for both.
    """
    block = np.empty(size_bytes, dtype=np.uint8)
    block[:: os.sysconf("SC_PAGE_SIZE")] = 1


def memcpy_gb_per_s(size_bytes: int = 400_000_000, repeats: int = 5) -> float:
    """Bandwidth of a copy between two warm arrays, the best of `repeats`: the ceiling of every `put`."""
    source = np.ones(size_bytes, dtype=np.uint8)
    target = np.ones(size_bytes, dtype=np.uint8)
    best_s = float("inf")
    for _ in range(repeats):
        begin = time.perf_counter()
        np.copyto(target, source)
        best_s = min(best_s, time.perf_counter() - begin)
    return size_bytes / best_s / 1e9
