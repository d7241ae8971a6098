"""A worker process without an executor: registers with the raylet, answers its questions, and does what a test tells it
over its own socket, one line a command. For tests of the zygote and of the raylet.

Commands: ``busy``, ``idle`` (what it answers when asked), ``blocked``, ``unblocked``, ``exit N``, ``raise TEXT``,
``signal N``, ``print TEXT``, ``error TEXT``, ``leave`` (announce the end, then end), ``ping``. Each is answered by a
line ``ok``.
"""

from __future__ import annotations

import os
import select
import signal
import socket
import sys
from typing import Any

from raybook.base.specs import PROTOCOL_VERSION
from raybook.io.process import start_time
from raybook.io.transport import ConnectionClosed, connect
from raybook.protocol.messages.raylet import (
    ActorStarted,
    Blocked,
    ExitWorker,
    LeaseProbe,
    LeaseProbeAnswer,
    RayletMessage,
    Register,
    RevokeAnswer,
    RevokeLease,
    StartActor,
    Unblocked,
    WorkerExiting,
)
from raybook.protocol.messages.zygote import WorkerOptions


class ScriptedWorker:
    """See the module."""

    def __init__(self, options: WorkerOptions) -> None:
        self.idle = True
        path = os.path.join(options.session_dir, f"worker-{options.client_id.hex()}.sock")
        self.listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.listener.bind(path)
        self.listener.listen()
        self.raylet = connect(options.raylet_address, options.token, RayletMessage)
        pid = os.getpid()
        self.send(
            Register(
                options.client_id,
                "worker",
                pid,
                start_time(pid) or 0,
                f"unix:{path}",
                b"",
                PROTOCOL_VERSION,
                f"{sys.version_info.major}.{sys.version_info.minor}",
            )
        )

    def send(self, message: Any) -> None:
        self.raylet.queue(message)
        while not self.raylet.flush():
            select.select([], [self.raylet.fd], [])

    def serve(self) -> None:
        """Until told to end, or until the raylet is gone."""
        commanders: dict[int, socket.socket] = {}
        while True:
            sources: list[Any] = [self.raylet.fd, self.listener, *commanders.values()]
            ready, _, _ = select.select(sources, [], [])
            for source in ready:
                if source is self.listener:
                    sock, _ = self.listener.accept()
                    commanders[sock.fileno()] = sock
                elif source == self.raylet.fd:
                    for message in self.raylet.receive():
                        self.answer(message)
                else:
                    data = source.recv(65536)
                    if not data:
                        del commanders[source.fileno()]
                        source.close()
                    for line in data.decode().splitlines():
                        self.obey(line)
                        source.sendall(b"ok\n")

    def answer(self, message: Any) -> None:
        if isinstance(message, RevokeLease):
            self.send(RevokeAnswer(message.epoch, self.idle))
        elif isinstance(message, LeaseProbe):
            self.send(LeaseProbeAnswer(message.probe_id, self.idle))
        elif isinstance(message, StartActor):
            if message.spec.creation == b"fails":
                self.send(ActorStarted(message.spec.actor_id, b"pickled", "ValueError: no"))
            else:
                self.send(ActorStarted(message.spec.actor_id))
        elif isinstance(message, ExitWorker) and (self.idle or not message.graceful):
            self.send(WorkerExiting(message.reason))
            sys.exit(0)

    def obey(self, line: str) -> None:
        verb, _, rest = line.partition(" ")
        if verb in ("busy", "idle"):
            self.idle = verb == "idle"
        elif verb == "blocked":
            self.send(Blocked())
        elif verb == "unblocked":
            self.send(Unblocked())
        elif verb == "exit":
            os._exit(int(rest))
        elif verb == "raise":
            raise RuntimeError(rest)
        elif verb == "signal":
            signal.signal(int(rest), signal.SIG_DFL)
            os.kill(os.getpid(), int(rest))
        elif verb == "print":
            print(rest)
        elif verb == "error":
            print(rest, file=sys.stderr)
        elif verb == "leave":
            self.send(WorkerExiting(rest))
            sys.exit(0)


def run(options: WorkerOptions) -> None:
    """The contract of raybook.worker.main.run."""
    try:
        ScriptedWorker(options).serve()
    except ConnectionClosed:
        sys.exit(0)
