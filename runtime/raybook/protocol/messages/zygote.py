"""Raylet ⇄ zygote: forks to make, ends to report, over one inherited socket pair (no token: it has no address)."""

from __future__ import annotations

import msgspec


class WorkerOptions(msgspec.Struct, array_like=True):
    """Everything a worker must know before it can register.

    worker_log_path: stdout goes to ``<path>.out``, stderr to ``<path>.err``. environment: variables set before anything
    else runs in the child.
    """

    raylet_address: str
    token: bytes
    client_id: bytes
    session_dir: str
    worker_log_path: str
    niceness: int = 0
    environment: dict[str, str] = {}
    runtime_env: str = ""
    """Key of the runtime environment (``base/environments``), which its tasks' children inherit."""
    interpreter: str = ""
    """Start this one anew instead of forking, "" to fork."""
    working_dir: str = ""
    import_paths: list[str] = []
    """Come before all others."""
    setup_hook: str = ""


class ForkWorker(msgspec.Struct, tag=1, array_like=True):
    """raylet → zygote: make one."""

    start_id: int
    options: WorkerOptions


class WorkerForked(msgspec.Struct, tag=2, array_like=True):
    """zygote → raylet: the process exists."""

    start_id: int
    pid: int


class ForkFailed(msgspec.Struct, tag=3, array_like=True):
    """zygote → raylet: the kernel refused (processes or memory exhausted)."""

    start_id: int
    text: str


class WorkerExited(msgspec.Struct, tag=4, array_like=True):
    """zygote → raylet: the process was reaped. ``status`` as waitpid gives it, ``rss_bytes_max`` its largest size."""

    pid: int
    status: int
    rss_bytes_max: int = 0


class KillProcess(msgspec.Struct, tag=5, array_like=True):
    """raylet → zygote: signal this worker and its process group, if it has not been reaped yet. Only the zygote can do
    that safely: while it has not reaped a pid, nobody else can have it."""

    pid: int
    signal: int = 9


class ZygoteReady(msgspec.Struct, tag=6, array_like=True):
    """zygote → raylet: imports are done."""

    pid: int
    import_ms: int = 0


ZygoteMessage = ForkWorker | WorkerForked | ForkFailed | WorkerExited | KillProcess | ZygoteReady
