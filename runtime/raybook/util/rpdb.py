"""A debugger for tasks and actors: ``raybook.util.rpdb.set_trace()`` stops there and waits for somebody to look.

In a worker it listens on a socket of the session's folder, which only this user may open, and prints how to connect:

    python -m raybook.util.rpdb /tmp/raybook/.../debug-4711.sock       or, in a notebook, rpdb.connect("...")

In a driver and in local mode it is the standard library's debugger. The task waits, and keeps its resources, until
somebody connects and says ``continue`` or ``quit``.
"""

from __future__ import annotations

import os
import select
import socket
import sys
from pdb import Pdb
from typing import Any, TextIO

from raybook.api import get_runtime_context
from raybook.api.context import WORKER, current_runtime


class _SocketPdb(Pdb):
    """Speaks with whoever has connected; the connection ends when the program goes on for good."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        stream: Any = connection.makefile("rw", encoding="utf-8", errors="replace", buffering=1)
        super().__init__(stdin=stream, stdout=stream)
        self.use_rawinput = False

    def do_continue(self, arg: str) -> Any:
        result = super().do_continue(arg)
        if not self.breaks:
            self._hang_up()
        return result

    do_c = do_cont = do_continue

    def do_quit(self, arg: str) -> Any:
        result = super().do_quit(arg)
        self._hang_up()
        return result

    do_q = do_exit = do_quit

    def _hang_up(self) -> None:
        self.stdout.close()
        self._connection.close()


def set_trace(breakpoint_uuid: Any = None) -> None:
    """Stop here. Blocks until somebody has connected (see the module); ``quit`` fails the task with bdb.BdbQuit."""
    frame = sys._getframe().f_back
    if current_runtime.mode != WORKER:
        Pdb().set_trace(frame)
        return
    engine = current_runtime.engine
    assert engine is not None
    path = os.path.join(engine.session_dir, f"debug-{os.getpid()}.sock")
    name = get_runtime_context().get_task_name()
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        # Under its name when somebody can connect, and not before: between the two a socket refuses.
        listener.bind(f"{path}.new")
        os.chmod(f"{path}.new", 0o600)
        listener.listen(1)
        os.rename(f"{path}.new", path)
        try:
            print(
                f"`{name}` stopped at a breakpoint and waits for you: python -m raybook.util.rpdb {path} (or, in a "
                f"notebook, raybook.util.rpdb.connect({path!r}))",
                flush=True,
            )
            connection, _ = listener.accept()
        finally:
            os.unlink(path)
    _SocketPdb(connection).set_trace(frame)


def connect(path: str, stdin: TextIO | None = None) -> None:
    """Talk to the debugger behind a socket until it hangs up. stdin: where commands come from; None: ``input()``, which a
    notebook has as well. ConnectionError or FileNotFoundError when nobody waits there."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.connect(path)
        while True:
            said = _read_to_prompt(connection)
            print(said, end="", flush=True)
            if not said.endswith("(Pdb) "):
                return
            line = input() if stdin is None else stdin.readline().rstrip("\n")
            connection.sendall(line.encode() + b"\n")


def _read_to_prompt(connection: socket.socket) -> str:
    said = b""
    while not said.endswith(b"(Pdb) "):
        select.select([connection], [], [])
        part = connection.recv(65536)
        if not part:
            break
        said += part
    return said.decode("utf-8", "replace")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python -m raybook.util.rpdb SOCKET")
    connect(sys.argv[1])
