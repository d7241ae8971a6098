"""A driver (or any client) of a raylet for tests: sends what it is told and keeps what comes back."""

from __future__ import annotations

import asyncio
import os
import platform
from collections.abc import Callable
from typing import Any

from raybook.base.ids import random_id
from raybook.base.resources import shape_of
from raybook.base.specs import PROTOCOL_VERSION, SchedulingClass
from raybook.io.loop_transport import Connection
from raybook.io.process import start_time
from raybook.io.transport import connect
from raybook.protocol.messages.raylet import RayletMessage, Register, Registered, SetDemand


def scheduling_class(**amounts: float) -> SchedulingClass:
    """A class that asks for these amounts, in the user's numbers."""
    return SchedulingClass(tuple(sorted(shape_of(amounts).items())))


class FakeDriver:
    """``messages`` is everything received that no ``expect`` has taken."""

    def __init__(self, address: str, token: bytes, **register: Any) -> None:
        self.client_id = random_id()
        self.messages: list[Any] = []
        self.arena_fd = -1
        self._changed = asyncio.Event()
        pid = register.pop("pid", os.getpid())
        fields: dict[str, Any] = {
            "client_id": self.client_id,
            "kind": "driver",
            "pid": pid,
            "start_time": start_time(pid) or 0,
            "address": "unix:/nowhere",
            "job_id": b"",
            "protocol_version": PROTOCOL_VERSION,
            "python_version": platform.python_version(),
        }
        self.connection: Connection
        self._address = address
        self._token = token
        self._register = Register(**fields | register)

    async def join(self) -> Registered:
        """Connect, register, and wait for the welcome and the arena's descriptor."""
        # Blocking steps, as a driver takes them; the raylet they wait for is on this loop.
        loop = asyncio.get_running_loop()
        framed = await loop.run_in_executor(None, connect, self._address, self._token, RayletMessage)
        framed.queue(self._register)
        framed.flush()
        messages, fd = await loop.run_in_executor(None, framed.receive_first_with_fd, 10.0)
        self.connection = Connection(framed, self._received, lambda connection: self._changed.set())
        self.messages += messages
        self.arena_fd = -1 if fd is None else fd
        return self.messages.pop(0)

    def send(self, *messages: Any) -> None:
        for message in messages:
            self.connection.send(message)

    def demand(self, class_key: int, count: int, **amounts: float) -> None:
        """SetDemand in the user's numbers."""
        self.send(SetDemand(class_key, scheduling_class(**amounts), count, f"class {class_key}"))

    async def expect(
        self, kind: type, wanted: Callable[[Any], bool] = lambda message: True, timeout_s: float = 10.0
    ) -> Any:
        """Take the first message of this kind that is wanted, past or future."""

        async def look() -> Any:
            while True:
                for index, message in enumerate(self.messages):
                    if isinstance(message, kind) and wanted(message):
                        return self.messages.pop(index)
                self._changed.clear()
                await self._changed.wait()

        try:
            return await asyncio.wait_for(look(), timeout_s)
        except (TimeoutError, asyncio.TimeoutError):
            raise AssertionError(f"No {kind.__name__} within {timeout_s} s; there are {self.messages}") from None

    def _received(self, connection: Connection, message: Any) -> None:
        self.messages.append(message)
        self._changed.set()

    def close(self) -> None:
        self.connection.close()
        if self.arena_fd >= 0:
            os.close(self.arena_fd)
            self.arena_fd = -1
