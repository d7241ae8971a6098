"""The raylet's side of the zygote: orders forks and kills on the loop, and hands on what the zygote reports."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from raybook.io.loop_transport import Connection
from raybook.io.transport import FramedSocket
from raybook.protocol.messages.zygote import ForkWorker, KillProcess, WorkerOptions, ZygoteMessage
from raybook.raylet.zygote_client import ZygoteHandle


class ZygoteLink:
    """One zygote. ``on_message`` gets WorkerForked, ForkFailed, WorkerExited, ZygoteReady; ``on_lost`` is called when
    the zygote ended without being asked to."""

    def __init__(self, handle: ZygoteHandle, on_message: Callable[[Any], None], on_lost: Callable[[], None]) -> None:
        self._handle = handle
        self._on_message = on_message
        self._on_lost = on_lost
        self._closing = False
        self._connection = Connection(FramedSocket(handle.sock, ZygoteMessage), self._received, self._closed)

    def fork(self, start_id: int, options: WorkerOptions) -> None:
        """Order a worker; WorkerForked or ForkFailed answers."""
        self._connection.send(ForkWorker(start_id, options))

    def kill(self, pid: int, signum: int) -> None:
        """Signal a worker and its process group, unless it is dead already."""
        self._connection.send(KillProcess(pid, signum))

    def end(self) -> None:
        """Let go of the socket, which ends the zygote and its workers. ``wait`` afterwards."""
        self._closing = True
        self._connection.close()

    def wait(self) -> None:
        """Block until the process is gone (some milliseconds after ``end``); run it in a thread."""
        self._handle.close()

    def _received(self, connection: Connection, message: Any) -> None:
        self._on_message(message)

    def _closed(self, connection: Connection) -> None:
        if not self._closing:
            self._on_lost()
