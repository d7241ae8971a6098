"""A worker's ``run`` that writes down what a forked child finds around itself, then waits to be killed."""

from __future__ import annotations

import json
import os
import random
import resource
import signal
import sys
import time

import numpy

from raybook.protocol.messages.zygote import WorkerOptions


def run(options: WorkerOptions) -> None:
    """The contract of raybook.worker.main.run. The report is one line of JSON on stdout."""
    faults = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    print("to stderr", file=sys.stderr)
    report = {
        "client": options.client_id.hex(),
        "fds": sorted(int(name) for name in os.listdir("/proc/self/fd")),
        "group": os.getpgid(0),
        "faults": faults,
        "pid": os.getpid(),
        "parent": os.getppid(),
        "comm": open("/proc/self/comm").read().strip(),
        "random": random.random(),
        "numpy": float(numpy.random.random()),
        "main": [name for name in vars(sys.modules["__main__"]) if not name.startswith("__")],
        "variable": os.environ.get("SAID"),
        "pythonpath": os.environ.get("PYTHONPATH"),
        "safepath": os.environ.get("PYTHONSAFEPATH"),
        "sigint": int(signal.getsignal(signal.SIGINT) or 0),  # type: ignore[arg-type]
        "sigchld": int(signal.getsignal(signal.SIGCHLD) or 0),  # type: ignore[arg-type]
        "threads": len(os.listdir("/proc/self/task")),
        "openblas": os.environ.get("OPENBLAS_NUM_THREADS"),
    }
    print(json.dumps(report))
    if "ends" in options.environment:
        raise SystemExit(int(options.environment["ends"]))
    if "raises" in options.environment:
        raise ValueError("as asked")
    time.sleep(600)
