"""Daemons: starting one of our own processes and hearing from it that it is ready, or why not.

The daemon gets a session of its own (an interrupt goes to the kernel's whole process group), its options as one JSON
argument, and a pipe on which it writes one JSON line. Nothing is left behind when it fails or when the wait is
interrupted. Spawned with ``Popen`` (vfork and exec), never by forking a process that has threads.
"""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

LOG_TAIL_BYTES = 4_000
STARTER_PATH = "RAYBOOK_STARTER_PYTHONPATH"


class DaemonFailed(Exception):
    """It ended or reported an error before it was ready; the text has its log's tail. ``what``: the text without that."""

    def __init__(self, what: str, log_path: Path) -> None:
        tail = log_tail(log_path)
        super().__init__(f"{what}. Its log ends:\n{tail}" if tail else f"{what}. It logged nothing.")
        self.what = what


def source_root() -> str:
    """The folder that has to be on ``sys.path`` for a new interpreter to find this very package."""
    return str(Path(__file__).resolve().parents[2])


def daemon_environment(environ: Mapping[str, str]) -> dict[str, str]:
    """The environment for a daemon: this one, finding this package first. The daemon sets it back when it runs, because
    its workers shall see what the user set."""
    env = dict(environ)
    rest = env.get("PYTHONPATH", "")
    env[STARTER_PATH] = rest
    env["PYTHONPATH"] = source_root() + (os.pathsep + rest if rest else "")
    return env


def restore_environment() -> None:
    """The daemon's side: make the environment the starter's again."""
    path = os.environ.pop(STARTER_PATH, None)
    if path:
        os.environ["PYTHONPATH"] = path
    elif path is not None:
        os.environ.pop("PYTHONPATH", None)


def spawn(
    module: str,
    options: Mapping[str, Any],
    log_path: Path,
    timeout_s: float,
    meanwhile: Callable[[], object] = lambda: None,
) -> tuple[subprocess.Popen[bytes], dict[str, Any]]:
    """Start ``python -m module OPTIONS`` and wait for its ready line: (process, what it said).

    ``options`` gets one more key, ``ready_fd``. meanwhile: called once while the daemon starts, for what the caller can
    do without it. Raises DaemonFailed; an interrupt, or an error of ``meanwhile``, ends the daemon and goes on. Cost:
    what the daemon needs, plus 3 ms.
    """
    read_fd, write_fd = os.pipe()
    try:
        # -P keeps the working directory, where a user's random.py may lie, off the daemon's path.
        safe_path = ["-P"] if sys.version_info >= (3, 11) else []
        with open(log_path, "ab", buffering=0) as log:
            process = subprocess.Popen(
                [sys.executable, *safe_path, "-m", module, json.dumps({**options, "ready_fd": write_fd})],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                pass_fds=[write_fd],
                env=daemon_environment(os.environ),
            )
    except BaseException:
        os.close(read_fd)
        raise
    finally:
        os.close(write_fd)
    try:
        meanwhile()
        return process, _await_ready(process, read_fd, log_path, time.monotonic() + timeout_s)
    except BaseException:
        stop(process, timeout_s=1.0)
        raise
    finally:
        os.close(read_fd)


class Starter:
    """The daemon's side of the ready pipe."""

    def __init__(self, ready_fd: int) -> None:
        self._fd: int | None = ready_fd

    def tell(self, message: Mapping[str, Any]) -> None:
        """Say that all is ready, or ``{"error": text}``. Only the first call says anything."""
        if self._fd is None:
            return
        descriptor, self._fd = self._fd, None
        try:
            os.write(descriptor, json.dumps(message).encode() + b"\n")
        except BrokenPipeError:
            pass  # Whoever started us has gone; the owner's watch sees to the rest.
        finally:
            os.close(descriptor)


def stop(process: subprocess.Popen[bytes], timeout_s: float) -> None:
    """Ask it to end (SIGTERM), insist after ``timeout_s`` (SIGKILL), and reap it. Idempotent."""
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
    if not wait(process, timeout_s):
        process.kill()
        process.wait()


def wait(process: subprocess.Popen[bytes], timeout_s: float) -> bool:
    """Wait for a child's end and reap it; False when it still runs. Popen.wait polls with pauses of up to 50 ms, which
    is a quarter of the time a shutdown may take, so this looks at a pidfd instead."""
    if process.poll() is not None:
        return True
    pidfd = os.pidfd_open(process.pid)
    try:
        ready = _poll(pidfd, timeout_s)
    finally:
        os.close(pidfd)
    if ready:
        process.wait()
    return ready


def log_tail(path: Path) -> str:
    """The last lines of a daemon's log, for error messages."""
    try:
        with open(path, "rb") as file:
            file.seek(0, os.SEEK_END)
            file.seek(max(0, file.tell() - LOG_TAIL_BYTES))
            return file.read().decode(errors="replace").strip()
    except OSError:
        return ""


def _await_ready(process: subprocess.Popen[bytes], read_fd: int, log_path: Path, deadline: float) -> dict[str, Any]:
    line = b""
    while not line.endswith(b"\n"):
        if not _poll(read_fd, deadline - time.monotonic()):
            raise DaemonFailed(f"process {process.pid} was not ready in time and was ended", log_path)
        part = os.read(read_fd, 65_536)
        if not part:
            wait(process, 1.0)
            raise DaemonFailed(f"process {process.pid} ended with code {process.returncode}", log_path)
        line += part
    message = json.loads(line)
    if "error" in message:
        raise DaemonFailed(message["error"], log_path)
    return message


def _poll(fd: int, timeout_s: float) -> bool:
    poller = select.poll()
    poller.register(fd, select.POLLIN)
    return bool(poller.poll(max(0, timeout_s) * 1000))
