"""Host link: the session process's connections: those that the head hands over, and of these the client's.

Message → event → ``core/session/server`` → effects, on the I/O thread of the process. Knows nothing of orders: they are
the host's.
"""

from __future__ import annotations

import contextlib
import logging
import select
import socket
import time
from collections.abc import Callable
from typing import Any, Protocol

import msgspec

from raybook.core.session.client import Deliver, SendBatch
from raybook.core.session.server import (
    Close,
    Detached,
    EndSession,
    Gone,
    Greet,
    HeardFrom,
    Knocked,
    Reset,
    SaidGoodbye,
    ServerMachine,
    TurnAway,
)
from raybook.io.handover import take_over
from raybook.io.transport import FramedSocket
from raybook.protocol.messages.session import Batch, Conversation, Goodbye, Knock, TurnedAway, Welcome

logger = logging.getLogger(__name__)

UNSENT_BYTES_MAX = 512 << 10
"""More is not encoded while the network has not taken this."""
BACKLOG_BYTES_MAX = 32 << 20
"""Answers that nobody has acknowledged; further ones wait as what they are about."""
_IN, _OUT = select.EPOLLIN, select.EPOLLOUT


class Loop(Protocol):
    """What turns: the core process."""

    def watch(self, fd: int, note: Callable[[], None], mask: int = ...) -> None: ...

    def unwatch(self, fd: int) -> None: ...

    def submit(self, event: Any) -> None: ...


class Host(Protocol):
    """Who does what the client orders. All on the I/O thread."""

    def welcome(self, greet: Greet) -> Welcome:
        """What to answer to a knock."""

    def deliver(self, body: bytes) -> None:
        """An order, for the first and only time. ValueError for what is none."""

    def reset(self, knock: Knock) -> None:
        """Another process is the client."""

    def attached(self) -> None:
        """Somebody listens (again)."""

    def detached(self) -> None:
        """Nobody does."""

    def has_room(self) -> None:
        """Answers that waited may come."""

    def end(self, reason: str) -> None:
        """The session is over."""


class HostLink:
    """handover: from the head's door. Call ``start`` on the I/O thread."""

    def __init__(self, loop: Loop, machine: ServerMachine, handover: socket.socket, host: Host) -> None:
        self._loop = loop
        self.machine = machine
        self._handover = handover
        self._host = host
        self._framed: dict[int, FramedSocket] = {}
        self._connections = 0
        self._masks: dict[int, int] = {}
        self._is_due = False
        self._effects: dict[type, Callable[[Any], None]] = {
            Deliver: lambda effect: self._deliver(effect.body),
            SendBatch: lambda effect: self._queue(self.machine.connection, effect.batch),
            Greet: self._greet,
            TurnAway: self._turn_away,
            Close: lambda effect: self._close(effect.connection),
            Reset: lambda effect: host.reset(effect.knock),
            Detached: lambda effect: self._detached(),
            EndSession: lambda effect: host.end(effect.reason),
        }

    def start(self) -> None:
        """From now on connections are taken over."""
        self._loop.watch(self._handover.fileno(), self._take_over, _IN)

    # Out

    @property
    def is_full(self) -> bool:
        """Answers should wait."""
        return self.machine.stream.backlog_bytes >= BACKLOG_BYTES_MAX

    def send(self, body: bytes) -> None:
        """Put an answer at the end of the stream; it goes out at the loop's next turn."""
        self.machine.stream.send(body)
        self.hurry()

    def hurry(self) -> None:
        """Write at the loop's next turn."""
        if not self._is_due:
            self._is_due = True
            self._loop.submit(self.flush)

    def flush(self) -> None:
        """Write what may go out now."""
        self._is_due = False
        number = self.machine.connection
        framed = self._framed.get(number)
        if framed is None:
            return
        now_ms = _now_ms()
        try:
            while framed.unsent_bytes < UNSENT_BYTES_MAX and (batch := self.machine.take(now_ms)) is not None:
                framed.queue(batch)
                framed.flush()
            self._watch(number, framed.flush())
        except ConnectionError:
            self._broke(number)

    def tick(self) -> None:
        """Look at the deadlines."""
        self._handle([])

    def next_deadline_s(self) -> float:
        """When to, from now."""
        due_ms = self.machine.next_deadline_ms()
        return 1.0 if due_ms is None else max(0.0, (due_ms - _now_ms()) / 1000)

    def farewell(self, timeout_s: float = 0.2) -> None:
        """What was answered last should reach the client before the process ends: write for a moment."""
        framed = self._framed.get(self.machine.connection)
        if framed is None:
            return
        with contextlib.suppress(OSError):
            while (batch := self.machine.take(_now_ms())) is not None:
                framed.queue(batch)
            end_s = time.monotonic() + timeout_s
            while not framed.flush() and time.monotonic() < end_s:
                select.select([], [framed.fd], [], 0.05)

    # In

    def _take_over(self) -> None:
        try:
            packet = take_over(self._handover)
        except EOFError:
            self._loop.unwatch(self._handover.fileno())
            self._host.end("the head has ended")
            return
        if packet is None:
            return
        words, connection = packet
        if connection is None:
            return
        self._connections += 1
        number = self._connections
        self._framed[number] = FramedSocket(connection, Conversation)
        self._watch(number, True)
        self._handle([Knocked(number, msgspec.msgpack.decode(words, type=Knock))])

    def _read(self, number: int) -> None:
        framed = self._framed.get(number)
        if framed is None:
            return
        try:
            messages = framed.receive()
        except ConnectionError:
            self._broke(number)
            return
        events: list[Any] = []
        for message in messages:
            if type(message) is Batch:
                events.append(HeardFrom(number, message))
            elif type(message) is Goodbye:
                events.append(SaidGoodbye(number, message.ends))
        self._handle(events)
        if number in self._framed:
            self.hurry()

    def _handle(self, events: list[Any]) -> None:
        was_full = self.is_full
        for effect in self.machine.handle(events, _now_ms()):
            self._effects[type(effect)](effect)
        if was_full and not self.is_full:
            self._host.has_room()

    def _deliver(self, body: bytes) -> None:
        try:
            self._host.deliver(body)
        except ValueError:  # msgspec's, too.
            logger.exception("The client sent what is no order; it is left out.")

    # Effects

    def _greet(self, effect: Greet) -> None:
        self._queue(effect.connection, self._host.welcome(effect))
        self._host.attached()
        self.hurry()

    def _turn_away(self, effect: TurnAway) -> None:
        self._queue(effect.connection, TurnedAway(effect.code, effect.text))
        self._close(effect.connection)

    def _detached(self) -> None:
        self._host.detached()

    def _queue(self, number: int, message: Any) -> None:
        framed = self._framed.get(number)
        if framed is None:
            return
        framed.queue(message)
        try:
            self._watch(number, framed.flush())
        except ConnectionError:
            self._broke(number)

    def _watch(self, number: int, is_written: bool) -> None:
        framed = self._framed[number]
        mask = _IN if is_written else _IN | _OUT
        if self._masks.get(number) != mask:
            self._masks[number] = mask
            self._loop.watch(framed.fd, lambda: self._read(number), mask)

    def _close(self, number: int) -> None:
        framed = self._framed.pop(number, None)
        if framed is not None:
            self._masks.pop(number, None)
            self._loop.unwatch(framed.fd)
            framed.close()

    def _broke(self, number: int) -> None:
        self._close(number)
        self._handle([Gone(number)])


def _now_ms() -> int:
    return int(time.monotonic() * 1000)
