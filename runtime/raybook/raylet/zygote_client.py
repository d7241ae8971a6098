"""Starts the zygote. Imports next to nothing, so that the head can call it before its own imports: the two then load at
the same time, and the first worker is ready about when the head is."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Mapping

WORKER_MAIN = "raybook.worker_process"


class ZygoteHandle:
    """A started zygote: its process and our end of the socket pair. ``close`` ends it and its children."""

    __slots__ = ("process", "sock", "worker_main")

    def __init__(self, process: subprocess.Popen, sock: socket.socket, worker_main: str) -> None:
        self.process = process
        self.sock = sock
        self.worker_main = worker_main

    def close(self, timeout_s: float = 2.0) -> None:
        """End it and wait: closing the socket tells it to kill its children and go. Idempotent."""
        self.sock.close()
        try:
            self.process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


def start_zygote(worker_main: str = WORKER_MAIN, environ: Mapping[str, str] | None = None) -> ZygoteHandle:
    """Start one from the *main thread*: it dies when the thread that started it ends. Returns at once; the zygote says
    ``ZygoteReady`` when its imports are done: after about 0.15 s, or longer with ``RAYBOOK_WORKER_PRELOAD``.

    The child must find this very package and the parent's ``sys.path`` before it can be told anything, hence the two
    variables, which it sets back to what they were here before it makes a worker."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    variables = dict(os.environ if environ is None else environ)
    package_root = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    changed = {
        "PYTHONPATH": os.pathsep.join(filter(None, (package_root, variables.get("PYTHONPATH")))),
        "PYTHONSAFEPATH": "1",
    }
    restore = [f"{name}={variables[name]}" if name in variables else name for name in changed]
    try:
        process = subprocess.Popen(
            [
                sys.executable,
                "-m",
                "raybook.worker.zygote",
                str(theirs.fileno()),
                str(os.getpid()),
                worker_main,
                os.pathsep.join(sys.path),
                *restore,
            ],
            env=variables | changed,
            stdin=subprocess.DEVNULL,
            pass_fds=(theirs.fileno(),),
            start_new_session=True,
        )
    except BaseException:
        ours.close()
        raise
    finally:
        theirs.close()
    return ZygoteHandle(process, ours, worker_main)
