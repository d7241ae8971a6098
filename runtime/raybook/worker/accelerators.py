"""Accelerators: shows a task the GPUs it was assigned, and no others, through ``CUDA_VISIBLE_DEVICES``; and its CPUs,
through ``OMP_NUM_THREADS``, so that the threads of many workers' numerical libraries do not fight for the cores.

Must run before the task's code initialises CUDA; a process that has initialised it keeps what it saw, which is why GPU
tasks get a fresh process by default (``max_calls=1``). Source: RAY.md behaviour 35.
"""

from __future__ import annotations

import os
import sys

from raybook.base.resources import CPU, GPU, UNIT
from raybook.base.specs import Assignment

CUDA_VISIBLE_DEVICES = "CUDA_VISIBLE_DEVICES"
KEEP_WITHOUT_GPU = "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO"
"""Set to 0, tasks without GPUs keep the variable as it is (the name Ray uses)."""


OMP_NUM_THREADS = "OMP_NUM_THREADS"
IS_CHOSEN = OMP_NUM_THREADS in os.environ
"""Whether somebody has set the number of threads for this process: then it stays. Libraries read it once, when they are
imported."""


def gpu_ids(assignment: Assignment) -> list[int]:
    """Indices of the GPUs that this assignment holds, whole or in part."""
    return [index for index, _amount in assignment.instances.get(GPU, ())]


def expose_gpus(assignment: Assignment) -> None:
    """Set the variable for what runs next in this process. Cost: 1 µs."""
    ids = gpu_ids(assignment)
    if ids or os.environ.get(KEEP_WITHOUT_GPU, "1") != "0":
        os.environ[CUDA_VISIBLE_DEVICES] = ",".join(map(str, ids))


def expose_cpus(assignment: Assignment) -> None:
    """As many threads as whole CPUs, and at least one (Ray's rule). Torch that was imported before is told so itself: it
    has read the variable. Cost: 1 µs."""
    if IS_CHOSEN:
        return
    threads = max(1, assignment.resources.get(CPU, 0) // UNIT)
    if os.environ.get(OMP_NUM_THREADS) == str(threads):
        return
    os.environ[OMP_NUM_THREADS] = str(threads)
    set_num_threads = getattr(sys.modules.get("torch"), "set_num_threads", None)
    if set_num_threads is not None:
        set_num_threads(threads)
