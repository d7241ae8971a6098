"""Stream: numbered bodies in both directions that arrive once and in order, over connections that break.

Each side keeps what the other one has not acknowledged. After a break each says how far it has received; the other one
goes on behind that. Knows nothing of connections, or of what the bodies say.

Invariants: a body is handed out once, in the order of its number; at most ``flight_bytes`` (or one body) are on their
way; what was acknowledged is forgotten. Source: TCP's cumulative acknowledgements; the architecture's (session,
sequence number).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator

import msgspec

from raybook.protocol.messages.session import Batch

FLIGHT_BYTES = 8 << 20
"""Unacknowledged at most: 100 Mbit/s over a tenth of a second need one, a fast network in the same house more."""
BATCH_BYTES = 256 << 10
"""One message: small enough that an urgent one behind it is not late."""
ACK_BYTES = 1 << 20
"""After so much, an acknowledgement goes out even when there is nothing else to say."""


class StreamBroken(Exception):
    """The other side sent what cannot be: its numbers have a gap, or acknowledge what was never sent."""


class StreamStatistics(msgspec.Struct, frozen=True):
    """A snapshot, for people and tests."""

    sent: int
    received: int
    unacknowledged: int
    backlog_bytes: int


class Stream:
    """One side. ``send`` and ``take`` are called by the same thread as ``receive``."""

    __slots__ = (
        "_acknowledged", "_flight_bytes_max", "_told", "_unheard_bytes", "_unsent", "_waiting", "backlog_bytes",
        "in_flight_bytes", "received",
    )  # fmt: skip

    def __init__(self, flight_bytes: int = FLIGHT_BYTES) -> None:
        self._flight_bytes_max = flight_bytes
        self._waiting: deque[bytes] = deque()
        """Sent over some connection, and not acknowledged: numbers from ``_acknowledged`` + 1 on."""
        self._unsent: deque[bytes] = deque()
        """Their numbers follow on those."""
        self._acknowledged = 0
        self.in_flight_bytes = 0
        self.backlog_bytes = 0
        """Of everything that is not acknowledged."""
        self.received = 0
        """Number of the last body that was handed out."""
        self._told = 0
        """What the other side knows of that."""
        self._unheard_bytes = 0

    # Out

    def send(self, body: bytes) -> None:
        """Put a body at the end. Cost: 0.1 µs."""
        self._unsent.append(body)
        self.backlog_bytes += len(body)

    def has_more(self) -> bool:
        """Whether ``take`` would find a body."""
        return bool(self._unsent) and (not self._waiting or self.in_flight_bytes < self._flight_bytes_max)

    def has_unsent(self) -> bool:
        """Whether a body has not been sent even once (over the present connection)."""
        return bool(self._unsent)

    def take(self) -> Batch | None:
        """The next message; None when there is nothing to say, or too much is on its way."""
        bodies: list[bytes] = []
        size = 0
        first = self._acknowledged + len(self._waiting) + 1
        while self.has_more() and size < BATCH_BYTES:
            body = self._unsent.popleft()
            self._waiting.append(body)
            bodies.append(body)
            size += len(body)
            self.in_flight_bytes += len(body)
        if not bodies and self._unheard_bytes < ACK_BYTES:
            return None
        return self._batch(first, bodies)

    def acknowledgement(self) -> Batch:
        """A message without bodies: how far this side has received, and that it lives."""
        return self._batch(self._acknowledged + len(self._waiting) + 1, [])

    def owes_acknowledgement(self) -> bool:
        """Whether the other side keeps what it need not."""
        return self._told < self.received

    def _batch(self, first: int, bodies: list[bytes]) -> Batch:
        self._told = self.received
        self._unheard_bytes = 0
        return Batch(first, self.received, bodies)

    # In

    def receive(self, batch: Batch) -> list[bytes]:
        """The bodies that are new. StreamBroken."""
        self._forget(batch.ack)
        ahead = batch.first - self.received - 1
        if ahead > 0:
            raise StreamBroken(f"Body {batch.first} came where {self.received + 1} was due.")
        fresh = batch.bodies[-ahead:] if ahead else batch.bodies
        self.received += len(fresh)
        self._unheard_bytes += sum(map(len, fresh))
        return fresh

    def resume(self, received: int) -> None:
        """A new connection; the other side has received up to there. What follows is sent again. StreamBroken."""
        self._forget(received)
        self._waiting.extend(self._unsent)
        self._unsent, self._waiting = self._waiting, self._unsent
        self._waiting.clear()
        self.in_flight_bytes = 0

    def _forget(self, ack: int) -> None:
        count = ack - self._acknowledged
        if count > len(self._waiting):
            raise StreamBroken(
                f"Body {ack} was acknowledged, and {self._acknowledged + len(self._waiting)} is the last."
            )
        for _ in range(count):
            size = len(self._waiting.popleft())
            self.in_flight_bytes -= size
            self.backlog_bytes -= size
        if count > 0:
            self._acknowledged = ack

    # Looks

    def statistics(self) -> StreamStatistics:
        waiting = len(self._waiting) + len(self._unsent)
        return StreamStatistics(self._acknowledged + waiting, self.received, waiting, self.backlog_bytes)

    def check_invariants(self) -> None:
        """AssertionError."""
        assert self.in_flight_bytes == _total(self._waiting), "bytes in flight"
        assert self.backlog_bytes == self.in_flight_bytes + _total(self._unsent), "bytes of the backlog"
        assert self._told <= self.received, "told more than received"


def _total(bodies: Iterator[bytes] | deque[bytes]) -> int:
    return sum(map(len, bodies))
