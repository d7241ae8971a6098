"""Preparation: how a new process becomes a worker: its environment, its logs, its seeds, its place in the kernel's eyes.

The last step, the user's setup hook, runs the user's code; what that raises ends the process, and its traceback is the
reason that the driver is told.
"""

from __future__ import annotations

import base64
import contextlib
import gc
import importlib
import io
import os
import random
import sys
import time
import types

from raybook.base.environments import PICKLED
from raybook.protocol import functions
from raybook.protocol.messages.zygote import WorkerOptions

WORKER_OOM_SCORE = 900
"""The kernel ends workers before drivers and daemons when memory runs out (Ray uses 1,000)."""

IDLE_NAME = b"ray::IDLE"


def prepare_worker(options: WorkerOptions) -> None:
    """What a process does once it is a worker, before it serves."""
    _enter(options)
    redirect_output(options.worker_log_path)
    if options.niceness:
        os.nice(options.niceness)
    with contextlib.suppress(OSError), open("/proc/self/oom_score_adj", "w") as file:
        file.write(str(WORKER_OOM_SCORE))
    with contextlib.suppress(OSError), open("/proc/self/comm", "wb") as file:
        file.write(IDLE_NAME)
    _reseed()
    gc.unfreeze()
    gc.enable()
    sys.argv[:] = ["raybook-worker"]
    # User code's ``__main__`` is the notebook, which arrives by value; ours must not be mistaken for it.
    sys.modules["__main__"] = types.ModuleType("__main__")
    _run_setup_hook(options.setup_hook)


def redirect_output(path: str) -> None:
    """What this process and its children print goes to the worker's logs."""
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.close(null)
    for target, suffix, stream in ((1, ".out", sys.stdout), (2, ".err", sys.stderr)):
        descriptor = os.open(path + suffix, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        os.dup2(descriptor, target)
        os.close(descriptor)
        # Whole lines go out at once, so that a crash loses none and a reader sees no halves.
        assert isinstance(stream, io.TextIOWrapper)
        stream.reconfigure(encoding="utf-8", errors="backslashreplace", line_buffering=True)


def _reseed() -> None:
    """All forks would draw the same numbers otherwise. Modules that are not loaded yet have nothing to share."""
    random.seed()
    numpy_random = sys.modules.get("numpy.random")
    if numpy_random is not None:
        numpy_random.seed()


def _enter(options: WorkerOptions) -> None:
    """Variables, folder and import paths."""
    os.environ.update(options.environment)
    if "TZ" in options.environment:
        time.tzset()
    if options.working_dir:
        os.chdir(options.working_dir)
    sys.path[:0] = options.import_paths


def _run_setup_hook(hook: str) -> None:
    """Call it. "": there is none."""
    if hook.startswith(PICKLED):
        functions.load(base64.b64decode(hook.removeprefix(PICKLED)))()
    elif hook:
        module, _, name = hook.rpartition(".")
        getattr(importlib.import_module(module), name)()
