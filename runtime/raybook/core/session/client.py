"""Client of a session: decides when a thin client connects, knocks, waits, goes on, and gives up.

Knows nothing of sockets, and of bodies only their numbers (``stream``). Invariants: one connection at a time; what comes
from an earlier one (its number says so) is ignored; after ENDED nothing is sent, and everybody who waits is told why.
Transitions are ``TABLE``.

Source of the times: a lost network is noticed after three missed signs of life; Ray's client gives up after 30 s
(``RAY_CLIENT_RECONNECT_GRACE_PERIOD``), we after the session's own idle limit, because until then nothing is lost.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from types import MappingProxyType
from typing import Any

import msgspec

from raybook.core.session.pulse import Pulse
from raybook.core.session.stream import Stream, StreamBroken
from raybook.protocol.messages.session import Batch, TurnedAway, Welcome

GREETING_MS = 20_000
"""A head that starts a session process for us needs half a second; on a machine that swaps, many."""
PAUSE_MS = 100
PAUSE_MS_MAX = 2_000
REFUSALS_MAX = 4
"""So many in a row are no accident: a session process that ended as we knocked explains one."""
NOTICE_MS = 1_000
"""A break that is over by then is not worth a line."""

DIALLING = "DIALLING"
OPEN = "OPEN"
PAUSING = "PAUSING"
ENDED = "ENDED"


# Events. ``attempt``: which connection it is about.


class Welcomed(msgspec.Struct):
    attempt: int
    welcome: Welcome


class WasTurnedAway(msgspec.Struct):
    attempt: int
    away: TurnedAway


class Broke(msgspec.Struct):
    """The connection could not be made, or ended. is_refusal: the other side has another token."""

    attempt: int
    reason: str
    is_refusal: bool = False


class Heard(msgspec.Struct):
    attempt: int
    batch: Batch


class Leaving(msgspec.Struct):
    """The user shuts down. reason: what verbs say from then on."""

    reason: str


# Effects.


class Dial(msgspec.Struct):
    """Connect, and knock with this number."""

    attempt: int
    received: int


class HangUp(msgspec.Struct):
    attempt: int


class Deliver(msgspec.Struct):
    """An answer's bytes, for the first and only time."""

    body: bytes


class SendBatch(msgspec.Struct):
    batch: Batch


class Say(msgspec.Struct):
    """A line for people."""

    text: str


class End(msgspec.Struct):
    """Nothing will come any more. code: of ``messages.session``, "" for a loss without an answer."""

    code: str
    text: str


class ClientMachine:
    """One thin client's line to its session. It begins open: the first knock is answered before there is a machine."""

    def __init__(self, welcome: Welcome, place: str, now_ms: int, stream: Stream | None = None) -> None:
        """place: the head's address, for people."""
        self.stream = stream or Stream()
        self.state = OPEN
        self.attempt = 1
        self._place = place
        self._session = f"session {welcome.session_name or welcome.session_id.hex()}"
        self._give_up_ms = int(welcome.idle_limit_s * 1000)
        self._lost_ms = 0
        self._lost_reason = ""
        self._has_said = False
        self._pause_ms = PAUSE_MS
        self._due_ms = 0
        self._pulse = Pulse(now_ms)
        self.breaks = 0
        self._refusals = 0

    # Hot: called by the shell for each turn.

    def take(self, now_ms: int) -> Batch | None:
        """The next message that may go out now."""
        if self.state != OPEN:
            return None
        batch = self.stream.take()
        if batch is not None:
            self._pulse.spoke_ms = now_ms
        return batch

    def handle(self, events: Iterable[Any], now_ms: int) -> list[Any]:
        """Apply events; what to do. Also when a deadline has passed."""
        effects: list[Any] = []
        for event in events:
            if self.state == ENDED or getattr(event, "attempt", self.attempt) != self.attempt:
                continue
            react = TABLE.get((self.state, type(event)))
            if react is not None:
                react(self, event, now_ms, effects)
        self._tick(now_ms, effects)
        return effects

    def next_deadline_ms(self) -> int | None:
        if self.state == ENDED:
            return None
        if self.state == OPEN:
            return self._pulse.next_deadline_ms(self.stream.owes_acknowledgement())
        limit_ms = self._lost_ms + self._give_up_ms
        notice_ms = limit_ms if self._has_said else self._lost_ms + NOTICE_MS
        return min(self._due_ms, limit_ms, notice_ms)

    # Edges

    def _on_batch(self, event: Heard, now_ms: int, effects: list[Any]) -> None:
        self._pulse.heard_ms = now_ms
        try:
            bodies = self.stream.receive(event.batch)
        except StreamBroken as error:
            self._end("", f"The {self._session} at {self._place} and this process lost count: {error}", effects)
            return
        effects += map(Deliver, bodies)

    def _on_broken(self, event: Broke, now_ms: int, effects: list[Any]) -> None:
        """The open connection ended."""
        self.breaks += 1
        self._lost_ms, self._lost_reason, self._has_said = now_ms, event.reason, False
        self._pause_ms = PAUSE_MS
        self._dial(now_ms, effects)

    def _on_failed(self, event: Broke, now_ms: int, effects: list[Any]) -> None:
        """A connection could not be made."""
        self._lost_reason = event.reason
        self._refusals = self._refusals + 1 if event.is_refusal else 0
        if self._refusals == 1:
            self._pause_ms = PAUSE_MS  # Somebody is there again.
        if self._refusals >= REFUSALS_MAX:
            text = (
                f"The head at {self._place} closes every connection once it has the proof of the token: another cluster, or "
                f"a head that was started anew, listens there by now. The {self._session} and its results are gone. Call "
                f"raybook.shutdown(), then raybook.init(...) with the new token to begin again."
            )
            self._end("", text, effects)
            return
        self.state, self._due_ms = PAUSING, now_ms + self._pause_ms
        self._pause_ms = min(2 * self._pause_ms, PAUSE_MS_MAX)

    def _on_welcome(self, event: Welcomed, now_ms: int, effects: list[Any]) -> None:
        try:
            self.stream.resume(event.welcome.received)
        except StreamBroken as error:
            self._end("", f"The {self._session} at {self._place} and this process lost count: {error}", effects)
            return
        self.state = OPEN
        self._refusals = 0
        self._pulse = Pulse(now_ms)
        if self._has_said:
            effects.append(Say(f"The connection to {self._place} is back; nothing was lost."))

    def _on_turned_away(self, event: WasTurnedAway, now_ms: int, effects: list[Any]) -> None:
        self._end(event.away.code, event.away.text, effects)

    def _on_leaving(self, event: Leaving, now_ms: int, effects: list[Any]) -> None:
        self._end("", event.reason, effects)

    # The clock

    def _tick(self, now_ms: int, effects: list[Any]) -> None:
        if self.state == OPEN:
            self._keep_alive(now_ms, effects)
            return
        if self.state == ENDED:
            return
        lost_ms = now_ms - self._lost_ms
        if lost_ms >= self._give_up_ms:
            text = (
                f"The connection to {self._place} was lost {lost_ms / 1000:.0f} s ago ({self._lost_reason}) and did not "
                f"come back. The {self._session} lives {self._give_up_ms / 1000:.0f} s without a client, and has ended by "
                f"now, with its results. Call raybook.shutdown() and raybook.init(...) to begin again."
            )
            self._end("", text, effects)
        elif lost_ms >= NOTICE_MS and not self._has_said:
            self._has_said = True
            left_s = (self._give_up_ms - lost_ms) / 1000
            effects.append(
                Say(
                    f"The connection to {self._place} is lost ({self._lost_reason}). The {self._session} goes on there and "
                    f"is kept for {left_s:.0f} s more; this process tries to reach it."
                )
            )
        if self.state == PAUSING and now_ms >= self._due_ms:
            self._dial(now_ms, effects)
        elif self.state == DIALLING and now_ms >= self._due_ms:
            effects.append(HangUp(self.attempt))
            self._on_failed(Broke(self.attempt, "no answer"), now_ms, effects)

    def _keep_alive(self, now_ms: int, effects: list[Any]) -> None:
        pulse = self._pulse
        if pulse.is_silent(now_ms):
            effects.append(HangUp(self.attempt))
            silent_s = (now_ms - pulse.heard_ms) / 1000
            self._on_broken(Broke(self.attempt, f"nothing was heard for {silent_s:.0f} s"), now_ms, effects)
            return
        if pulse.is_due(now_ms, self.stream.owes_acknowledgement()):
            pulse.spoke_ms = now_ms
            effects.append(SendBatch(self.stream.acknowledgement()))

    def _dial(self, now_ms: int, effects: list[Any]) -> None:
        self.attempt += 1
        self.state, self._due_ms = DIALLING, now_ms + GREETING_MS
        effects.append(Dial(self.attempt, self.stream.received))

    def _end(self, code: str, text: str, effects: list[Any]) -> None:
        self.state = ENDED
        effects += (HangUp(self.attempt), End(code, text))

    # Looks

    def check_invariants(self) -> None:
        """AssertionError."""
        self.stream.check_invariants()
        assert self.state in (OPEN, DIALLING, PAUSING, ENDED), self.state

    def story(self, key: bytes = b"") -> str:
        """For people; there is one line, so it has one story."""
        counts = self.stream.statistics()
        return (
            f"{self._session} at {self._place}: {self.state}, connection {self.attempt}, {self.breaks} breaks, "
            f"{counts.sent} sent ({counts.unacknowledged} unacknowledged, {counts.backlog_bytes} bytes), "
            f"{counts.received} received"
        )


React = Callable[[ClientMachine, Any, int, list[Any]], None]

TABLE: MappingProxyType[tuple[str, type], React] = MappingProxyType(
    {
        (OPEN, Heard): ClientMachine._on_batch,
        (OPEN, Broke): ClientMachine._on_broken,
        (OPEN, WasTurnedAway): ClientMachine._on_turned_away,
        (OPEN, Leaving): ClientMachine._on_leaving,
        (DIALLING, Welcomed): ClientMachine._on_welcome,
        (DIALLING, WasTurnedAway): ClientMachine._on_turned_away,
        (DIALLING, Broke): ClientMachine._on_failed,
        (DIALLING, Leaving): ClientMachine._on_leaving,
        (PAUSING, Leaving): ClientMachine._on_leaving,
    }
)
"""(state, event) → what happens. What is not here changes nothing."""
