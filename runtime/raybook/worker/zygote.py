"""Zygote: the process that workers are forked from. ``python -m raybook.worker.zygote``, started by zygote_client.

It imports what every worker needs, once, and then only forks, reaps and reports. It never computes, starts no thread,
touches neither CUDA nor gRPC: a forked child inherits locks and half-done state of whatever its parent was doing. One
process does the forking for all workers, so that a worker costs about a millisecond and shares its pages.

It dies with the thread that started it (PDEATHSIG) and when its socket closes, and takes its children with it; each
child dies with it by PDEATHSIG as well. ``RAYBOOK_WORKER_PRELOAD`` names further modules to import, such as torch, whose
import takes seconds and is then made once instead of once a worker.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import os
import select
import signal
import socket
import sys
import time
import types
from typing import NoReturn

import msgspec

from raybook.base.config import PRELOAD_VARIABLE
from raybook.io.process import become_subreaper, descendants, raise_file_limit, set_death_signal
from raybook.io.transport import ConnectionClosed, FramedSocket
from raybook.protocol.auth import CHALLENGE_BYTES, TOKEN_BYTES, prove
from raybook.protocol.messages.raylet import RayletMessage
from raybook.protocol.messages.worker import WorkerMessage
from raybook.protocol.messages.zygote import (
    ForkFailed,
    ForkWorker,
    KillProcess,
    WorkerExited,
    WorkerForked,
    WorkerOptions,
    ZygoteMessage,
    ZygoteReady,
)
from raybook.worker.fresh import become_fresh
from raybook.worker.preparation import prepare_worker, redirect_output

PRELOADS = ("numpy", "msgspec", "cloudpickle", "raybook.exceptions")
"""What a zygote imports besides the worker's own code. The module of errors is among it because cloudpickle sends a class
by value, as another class than the driver's, when the module that names it is not loaded."""

COMPANIONS = types.MappingProxyType({"torch": ("torch._dynamo",)})
"""What comes with a module that somebody asked for: torch imports its compiler when the first optimizer is made, which
takes as long as torch itself."""


class Zygote:
    """The loop of the process. ``children`` are workers that have not been reaped."""

    def __init__(self, sock: socket.socket, worker_main: types.ModuleType) -> None:
        self._framed = FramedSocket(sock, ZygoteMessage)
        self._worker_main = worker_main
        self._children: dict[int, bool] = {}
        self._wake_reader, self._wake_writer = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._pid = os.getpid()

    def serve(self, ready: ZygoteReady) -> None:
        """Work until the raylet closes the socket; then end every child."""
        # The handler does nothing: the byte in the pipe wakes the poll below.
        signal.signal(signal.SIGCHLD, lambda signum, frame: None)
        signal.set_wakeup_fd(self._wake_writer, warn_on_full_buffer=False)
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        poll = select.poll()
        poll.register(self._wake_reader, select.POLLIN)
        poll.register(self._framed.fd, select.POLLIN)
        try:
            self._framed.queue(ready)
            while True:
                done = self._framed.flush()
                poll.modify(self._framed.fd, select.POLLIN if done else select.POLLIN | select.POLLOUT)
                for fd, _ in poll.poll():
                    if fd == self._wake_reader:
                        os.read(self._wake_reader, 4096)
                    else:
                        for message in self._framed.receive():
                            self._handle(message)
                self._reap()
        except ConnectionClosed:
            pass
        finally:
            self._end_children()

    def _handle(self, message: ForkWorker | KillProcess) -> None:
        if isinstance(message, KillProcess):
            if message.pid in self._children:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(message.pid, message.signal)
        else:
            self._fork(message)

    def _fork(self, message: ForkWorker) -> None:
        try:
            pid = os.fork()
        except OSError as error:
            self._framed.queue(ForkFailed(message.start_id, f"fork failed: {error}"))
            return
        if pid == 0:
            self._become_worker(message.options)
        # Both sides do this, so that neither can meet the child in the zygote's own group.
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.setpgid(pid, pid)
        self._children[pid] = True
        self._framed.queue(WorkerForked(message.start_id, pid))

    def _become_worker(self, options: WorkerOptions) -> NoReturn:
        """In the child. Must not return into the zygote's loop, whatever happens: hence the bare handler."""
        status = 1
        try:
            self._leave_zygote()
            if options.interpreter:
                redirect_output(options.worker_log_path)
                become_fresh(options, self._worker_main.__name__)
            prepare_worker(options)
            self._worker_main.run(options)
            status = 0
        except SystemExit as end:
            status = end.code if isinstance(end.code, int) else int(end.code is not None)
        except BaseException:  # noqa: BLE001 - the only caller above is the loop of another process.
            sys.excepthook(*sys.exc_info())
        finally:
            with contextlib.suppress(OSError, ValueError):
                sys.stdout.flush()
                sys.stderr.flush()
            os._exit(status)

    def _leave_zygote(self) -> None:
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        set_death_signal(signal.SIGKILL)
        if os.getppid() != self._pid:
            os._exit(1)
        os.setpgid(0, 0)
        self._framed.close()
        os.close(self._wake_reader)
        os.close(self._wake_writer)

    def _reap(self) -> None:
        """Report every child that ended. What is left of its process group is ended first, while the unreaped child
        still keeps the group's number from being given to somebody else."""
        while True:
            try:
                ended = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            except ChildProcessError:
                return
            if ended is None:
                return
            pid = ended.si_pid
            known = self._children.pop(pid, False)
            if known:
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.killpg(pid, signal.SIGKILL)
            _, status, usage = os.wait4(pid, 0)
            if known:
                self._framed.queue(WorkerExited(pid, status, usage.ru_maxrss * 1024))

    def _end_children(self) -> None:
        for pid in self._children:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(pid, signal.SIGKILL)
        for pid in descendants(self._pid):
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)


def _import_everything(worker_main: str, asked: str) -> types.ModuleType:
    """Imports only. OpenBLAS would start a thread for each core while numpy is imported; threads do not survive a fork,
    so it is told one here, and the variable is as it was for the children."""
    known = os.environ.get("OPENBLAS_NUM_THREADS")
    os.environ["OPENBLAS_NUM_THREADS"] = known or "1"
    for name in PRELOADS:
        importlib.import_module(name)
    for name in filter(None, map(str.strip, asked.split(","))):
        for each in (name, *COMPANIONS.get(name, ())):
            _preload(each)
    module = importlib.import_module(worker_main)
    # Two first times that no worker needs to repeat: msgspec looks at a message's fields when its first decoder is made
    # (6 ms), and OpenSSL looks up its digest (1 ms).
    for union in (RayletMessage, WorkerMessage):
        msgspec.msgpack.Decoder(union)
    prove(bytes(TOKEN_BYTES), bytes(CHALLENGE_BYTES))
    if known is None:
        del os.environ["OPENBLAS_NUM_THREADS"]
    return module


def _preload(name: str) -> None:
    """Import what was asked for. Without it workers are slower to start, no worse: whoever needs it is told there."""
    try:
        importlib.import_module(name)
    except Exception as error:  # noqa: BLE001 - Whatever a module does on import, the workers are to come.
        print(f"{PRELOAD_VARIABLE}: {name} was not imported: {error!r}", file=sys.stderr)


def main(arguments: list[str]) -> int:
    """Entry: descriptor, parent's pid, module of the worker's ``run``, ``sys.path``, variables to set back."""
    began = time.monotonic()
    descriptor, parent, worker_main, path, *restore = arguments
    set_death_signal(signal.SIGKILL)
    if os.getppid() != int(parent):
        return 1
    become_subreaper()
    raise_file_limit()
    for item in restore:
        name, assigned, value = item.partition("=")
        if assigned:
            os.environ[name] = value
        else:
            os.environ.pop(name, None)
    sys.path[:] = path.split(os.pathsep)
    gc.disable()
    module = _import_everything(worker_main, os.environ.get(PRELOAD_VARIABLE, ""))
    gc.collect()
    gc.freeze()
    sock = socket.socket(fileno=int(descriptor))
    sock.set_inheritable(False)
    Zygote(sock, module).serve(ZygoteReady(os.getpid(), int((time.monotonic() - began) * 1000)))
    return 0


if __name__ == "__main__":
    # By its real name, so that there is one copy of the module's classes.
    from raybook.worker.zygote import main as run

    sys.exit(run(sys.argv[1:]))
