"""Server of a session: decides who is its client, what a new connection goes on with, and when the session ends.

Knows nothing of sockets or of what bodies say. Invariants: one process is the client at a time, and one connection is its;
a process that lost its place to another one never gets it back; without a client the session ends after its idle limit.
Transitions are ``TABLE``. The other half is ``core/session/client``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from types import MappingProxyType
from typing import Any

import msgspec

from raybook.core.session.client import Deliver, SendBatch
from raybook.core.session.ledger import Ledger
from raybook.core.session.pulse import Pulse
from raybook.core.session.stream import Stream, StreamBroken
from raybook.protocol.messages.session import SESSION_ENDED, TAKEN_OVER, UNKNOWN_SESSION, Batch, Knock

WAITING = "WAITING"
ATTACHED = "ATTACHED"
ENDED = "ENDED"

NUMBERS_FOR_EACH = 1 << 40
"""Ids that one client process makes: their counters begin a multiple of this apart."""


# Events. ``connection``: the shell's number for it.


class Knocked(msgspec.Struct):
    connection: int
    knock: Knock


class Gone(msgspec.Struct):
    """The connection ended."""

    connection: int


class HeardFrom(msgspec.Struct):
    connection: int
    batch: Batch


class SaidGoodbye(msgspec.Struct):
    """The client's process leaves. ends: it wants the session to go with it."""

    connection: int
    ends: bool


# Effects, beside ``Deliver`` and ``SendBatch``.


class Greet(msgspec.Struct):
    """Welcome this connection: it is the client's."""

    connection: int
    received: int
    is_new: bool
    first_number: int
    knock: Knock


class TurnAway(msgspec.Struct):
    """Say no, and close."""

    connection: int
    code: str
    text: str


class Close(msgspec.Struct):
    connection: int


class Reset(msgspec.Struct):
    """Another process is the client: what the former one waited for is nobody's."""

    knock: Knock


class Detached(msgspec.Struct):
    """Nobody listens now."""


class EndSession(msgspec.Struct):
    reason: str


class ServerMachine:
    """One session."""

    def __init__(self, name: str, session_id: bytes, idle_limit_ms: int, now_ms: int) -> None:
        self.stream = Stream()
        self.ledger = Ledger()
        self.state = WAITING
        self.name = name
        self.session_id = session_id
        self.idle_limit_ms = idle_limit_ms
        self._process_id = b""
        self._who = ""
        self._former: set[bytes] = set()
        self._processes = 0
        self._connection = 0
        self._pulse = Pulse(now_ms)
        self._alone_ms = now_ms
        self.end_reason = ""

    # Hot

    def take(self, now_ms: int) -> Batch | None:
        """The next message to the client that may go out now."""
        if self.state != ATTACHED:
            return None
        batch = self.stream.take()
        if batch is not None:
            self._pulse.spoke_ms = now_ms
        return batch

    @property
    def connection(self) -> int:
        """The client's; 0 when there is none."""
        return self._connection if self.state == ATTACHED else 0

    def handle(self, events: Iterable[Any], now_ms: int) -> list[Any]:
        """Apply events; what to do. Also when a deadline has passed."""
        effects: list[Any] = []
        for event in events:
            react = TABLE.get((self.state, type(event)))
            if react is None:
                continue
            if type(event) is not Knocked and event.connection != self._connection:
                continue
            react(self, event, now_ms, effects)
        self._tick(now_ms, effects)
        return effects

    def next_deadline_ms(self) -> int | None:
        if self.state == ENDED:
            return None
        if self.state == WAITING:
            return self._alone_ms + self.idle_limit_ms
        return self._pulse.next_deadline_ms(self.stream.owes_acknowledgement())

    # Edges

    def _on_knock(self, event: Knocked, now_ms: int, effects: list[Any]) -> None:
        knock = event.knock
        if knock.process_id in self._former:
            effects.append(TurnAway(event.connection, TAKEN_OVER, self._taken_over()))
        elif knock.process_id == self._process_id:
            self._resume(event, now_ms, effects)
        elif knock.session_id:
            text = f"The {self._title()} does not know this process: it has begun anew since. Call raybook.init again."
            effects.append(TurnAway(event.connection, UNKNOWN_SESSION, text))
        else:
            self._change_hands(event, now_ms, effects)

    def _resume(self, event: Knocked, now_ms: int, effects: list[Any]) -> None:
        try:
            self.stream.resume(event.knock.received)
        except StreamBroken as error:
            text = f"The {self._title()} and this process lost count: {error}"
            effects.append(TurnAway(event.connection, UNKNOWN_SESSION, text))
            return
        if self.state == ATTACHED:
            # The old connection is dead, and only this side has not heard of it.
            effects.append(Close(self._connection))
        self._attach(event, False, now_ms, effects)

    def _change_hands(self, event: Knocked, now_ms: int, effects: list[Any]) -> None:
        is_new = not self._processes
        old_connection = self._connection if self.state == ATTACHED else 0
        if not is_new:
            self._former.add(self._process_id)
        self._process_id, self._who = event.knock.process_id, event.knock.who
        self._processes += 1
        if old_connection:
            effects.append(TurnAway(old_connection, TAKEN_OVER, self._taken_over()))
        if not is_new:
            self.stream = Stream()
            self.ledger.change_hands()
        effects.append(Reset(event.knock))
        self._attach(event, is_new, now_ms, effects)

    def _attach(self, event: Knocked, is_new: bool, now_ms: int, effects: list[Any]) -> None:
        self.state = ATTACHED
        self._connection = event.connection
        self._pulse = Pulse(now_ms)
        first_number = (self._processes - 1) * NUMBERS_FOR_EACH + 1
        effects.append(Greet(event.connection, self.stream.received, is_new, first_number, event.knock))

    def _on_batch(self, event: HeardFrom, now_ms: int, effects: list[Any]) -> None:
        self._pulse.heard_ms = now_ms
        try:
            bodies = self.stream.receive(event.batch)
        except StreamBroken as error:
            text = f"The {self._title()} and this process lost count: {error}"
            effects.append(TurnAway(event.connection, UNKNOWN_SESSION, text))
            self._leave(now_ms, effects)
            return
        effects += map(Deliver, bodies)

    def _on_gone(self, event: Gone, now_ms: int, effects: list[Any]) -> None:
        self._leave(now_ms, effects)

    def _on_goodbye(self, event: SaidGoodbye, now_ms: int, effects: list[Any]) -> None:
        effects.append(Close(event.connection))
        if event.ends:
            self._end("its driver has left", effects)
        else:
            self._leave(now_ms, effects)

    def _knock_after_end(self, event: Knocked, now_ms: int, effects: list[Any]) -> None:
        text = f"The {self._title()} has ended: {self.end_reason}. Call raybook.init again to begin another one."
        effects.append(TurnAway(event.connection, SESSION_ENDED, text))

    # The clock

    def _tick(self, now_ms: int, effects: list[Any]) -> None:
        if self.state == ATTACHED:
            if self._pulse.is_silent(now_ms):
                effects.append(Close(self._connection))
                self._leave(now_ms, effects)
            elif self._pulse.is_due(now_ms, self.stream.owes_acknowledgement()):
                self._pulse.spoke_ms = now_ms
                effects.append(SendBatch(self.stream.acknowledgement()))
        elif self.state == WAITING and now_ms - self._alone_ms >= self.idle_limit_ms:
            self._end(f"no client was connected for {self.idle_limit_ms / 1000:.0f} s, its idle limit", effects)

    def _leave(self, now_ms: int, effects: list[Any]) -> None:
        self.state = WAITING
        self._alone_ms = now_ms
        effects.append(Detached())

    def _end(self, reason: str, effects: list[Any]) -> None:
        self.state = ENDED
        self.end_reason = reason
        effects.append(EndSession(reason))

    # Words

    def _title(self) -> str:
        return f"session {self.name or self.session_id.hex()}"

    def _taken_over(self) -> str:
        return (
            f"The {self._title()} was taken over by {self._who or 'another process'}. Its results are all there, for that "
            f"process; call raybook.shutdown() here, and raybook.init(..., session=...) to take it back."
        )

    def check_invariants(self) -> None:
        """AssertionError."""
        self.stream.check_invariants()
        self.ledger.check_invariants()
        assert self._process_id not in self._former, "a process that lost its place has it"

    def story(self, key: bytes = b"") -> str:
        """For people."""
        counts = self.stream.statistics()
        return (
            f"{self._title()}: {self.state}, client {self._who or 'none'}, number {self._processes}, "
            f"{counts.sent} sent ({counts.unacknowledged} unacknowledged), {counts.received} received, "
            f"{len(self.ledger.held)} ids held, {len(self.ledger.kept)} kept"
        )


React = Callable[[ServerMachine, Any, int, list[Any]], None]

TABLE: MappingProxyType[tuple[str, type], React] = MappingProxyType(
    {
        (WAITING, Knocked): ServerMachine._on_knock,
        (ATTACHED, Knocked): ServerMachine._on_knock,
        (ATTACHED, HeardFrom): ServerMachine._on_batch,
        (ATTACHED, Gone): ServerMachine._on_gone,
        (ATTACHED, SaidGoodbye): ServerMachine._on_goodbye,
        (ENDED, Knocked): ServerMachine._knock_after_end,
    }
)
"""(state, event) → what happens. What is not here changes nothing."""
