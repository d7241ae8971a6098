"""Raylet link: this process's one connection to the raylet of its node, for the I/O thread.

Registers, carries messages both ways, matches answers to blocking calls of the GCS. When the connection ends, so does
this process's membership: everything that waits is released, and finds out why.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

from raybook.base.ids import random_id
from raybook.base.versions import OWN
from raybook.io.process import start_time
from raybook.io.transport import FramedSocket, connect
from raybook.protocol.messages.raylet import GcsCall, GcsReply, RayletMessage, Refused, Register, Registered
from raybook.worker.leading import shut_lock

REGISTER_TIMEOUT_S = 30.0
"""A raylet answers in a millisecond; on a machine that swaps, in seconds."""


class GcsRequest:
    """One call of the GCS from a user thread, which waits on ``lock`` unless nobody watches the answer. on_reply: called
    on the I/O thread with the answer, or with None when there will be none."""

    __slots__ = ("done", "is_watched", "lock", "method", "on_reply", "reply", "request")

    def __init__(
        self,
        method: str,
        request: bytes,
        is_watched: bool = True,
        on_reply: Callable[[GcsReply | None], None] | None = None,
    ) -> None:
        self.method = method
        self.request = request
        self.reply: GcsReply | None = None
        self.is_watched = is_watched
        self.on_reply = on_reply
        self.done = False
        self.lock = shut_lock()

    def answer(self, reply: GcsReply | None) -> None:
        """The answer, or None: the connection ended before there was one. I/O thread; the second time nothing happens."""
        on_reply, self.on_reply = self.on_reply, None
        if not self.done:
            self.reply = reply
            self.done = True
            self.lock.release()
        if on_reply is not None:
            on_reply(reply)


class RayletLink:
    """The connection. Made by ``register``."""

    def __init__(self, framed: FramedSocket, registered: Registered, arena_fd: int, early: list[Any]) -> None:
        self.framed = framed
        self.registered = registered
        self.arena_fd = arena_fd
        self.early = early
        """Messages that arrived together with the welcome."""
        self.is_writing = False
        self.is_unsent = False
        """Something was queued that ``flush`` has not written yet. A flag: it is asked at every turn of the loop."""
        self._calls: dict[int, GcsRequest] = {}
        self._next_call = 1

    @classmethod
    def register(
        cls, raylet_address: str, token: bytes, kind: str, client_id: bytes, my_address: str, namespace: str,
        kernel_id: str, entrypoint: str, wants_output: bool = False,
    ) -> RayletLink:  # fmt: skip
        """Connect and register; blocks until the raylet answers. ConnectionError with its reason when it refuses."""
        framed = connect(raylet_address, token, RayletMessage)
        pid = os.getpid()
        framed.queue(
            Register(
                client_id=client_id,
                kind=kind,
                pid=pid,
                start_time=start_time(pid) or 0,
                address=my_address,
                job_id=random_id(),
                protocol_version=OWN.protocol,
                python_version=OWN.python,
                namespace=namespace,
                kernel_id=kernel_id,
                entrypoint=entrypoint,
                wants_output=wants_output,
                raybook_version=OWN.raybook,
            )
        )
        framed.flush()
        messages, fd = framed.receive_first_with_fd(REGISTER_TIMEOUT_S)
        first = messages[0]
        if isinstance(first, Refused) or fd is None:
            framed.close()
            raise ConnectionError(f"The cluster at {raylet_address} refused: {getattr(first, 'reason', first)}")
        return cls(framed, first, fd, messages[1:])

    @property
    def fd(self) -> int:
        return self.framed.fd

    def send(self, message: Any) -> None:
        """Queue a message; ``flush`` writes it. After the end it goes nowhere."""
        if not self.framed.closed:
            self.framed.queue(message)
            self.is_unsent = True

    def call(self, request: GcsRequest) -> None:
        """Send a call of the GCS; the answer opens its lock."""
        if self.framed.closed:
            request.answer(None)
            return
        number = self._next_call
        self._next_call += 1
        self._calls[number] = request
        self.send(GcsCall(number, request.method, request.request))

    def answered(self, message: GcsReply) -> GcsRequest | None:
        """Match an answer; the request that it belongs to."""
        request = self._calls.pop(message.call_id, None)
        if request is not None:
            request.answer(message)
        return request

    def end(self) -> None:
        """Close, and release everybody who waits for an answer. Idempotent."""
        self.framed.close()
        unanswered, self._calls = self._calls, {}
        for request in unanswered.values():
            request.answer(None)
