"""Calls: requests and replies between a node and the GCS, in virtual time; the order of ``io/outbox``, without its loop.

One call at a time, at least once: a service that is away is tried again, and a reply that is lost with it means that
the call is made again. Requests and replies are copied, as the wire would. Knows nothing of what it carries.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any, Protocol

import msgspec

from raybook.sim.timeline import Timeline

RETRY_MS = 200
"""As ``raylet/gcs_link`` does while the GCS is away."""


class Away(Exception):
    """Nobody answers."""


class Refusal(Exception):
    """The service refused: an exception class of base/errors, and a text."""

    def __init__(self, code: str, text: str) -> None:
        super().__init__(f"{code}: {text}")
        self.code = code
        self.text = text


class Service(Protocol):
    """Who answers. ``life`` changes when it is started anew."""

    life: int

    def call(self, method: str, request: Any) -> Any:
        """The reply. Refusal, Away."""


def copied(record: Any) -> Any:
    """As it comes out at the other end of a wire."""
    if record is None:
        return None
    return msgspec.msgpack.decode(msgspec.msgpack.encode(record), type=type(record))


def _always() -> bool:
    return True


class Outbox:
    """Calls to one service. latency_us: how long each way takes. reach: whether anything passes. unreachable: called when a
    call fails for lack of that, and then nothing is sent until ``resume``; without it, it is tried again and again."""

    def __init__(
        self,
        timeline: Timeline,
        service: Service,
        latency_us: Callable[[], int],
        reach: Callable[[], bool] = _always,
        unreachable: Callable[[], None] | None = None,
    ) -> None:
        self._timeline = timeline
        self._service = service
        self._latency_us = latency_us
        self._reach = reach
        self._unreachable = unreachable
        self._queue: deque[tuple[str, Any, Callable[[Any], None]]] = deque()
        self._is_busy = False
        self._is_closed = False

    def send(self, method: str, request: Any, answered: Callable[[Any], None] = lambda reply: None) -> None:
        """Queue a call. answered: with the reply, or the Refusal."""
        self._queue.append((method, copied(request), answered))
        self.resume()

    def resume(self) -> None:
        """Go on. Harmless when nothing was in the way."""
        if self._queue and not self._is_busy and not self._is_closed:
            self._is_busy = True
            self._timeline.after(self._latency_us(), self._arrive)

    def close(self) -> None:
        """Whoever sends is gone, and what it had not sent with it."""
        self._is_closed = True
        self._queue.clear()

    def _arrive(self) -> None:
        if self._is_closed:
            return
        method, request, _ = self._queue[0]
        try:
            if not self._reach():
                raise Away
            reply = copied(self._service.call(method, request))
        except Refusal as refusal:
            reply = refusal
        except Away:
            self._fail()
            return
        self._timeline.after(self._latency_us(), self._answered, reply, self._service.life)

    def _fail(self) -> None:
        if self._unreachable is None:
            self._timeline.after(RETRY_MS * 1000, self._again)
            return
        self._is_busy = False
        self._unreachable()

    def _again(self) -> None:
        self._is_busy = False
        self.resume()

    def _answered(self, reply: Any, life: int) -> None:
        if self._is_closed:
            return
        if not self._reach():
            self._fail()
            return
        if life == self._service.life:
            _, _, answered = self._queue.popleft()
            answered(reply)
        self._again()


def ask(
    timeline: Timeline,
    service: Service,
    latency_us: Callable[[], int],
    reach: Callable[[], bool],
    method: str,
    request: Any,
    answered: Callable[[Any], None],
) -> None:
    """One call that keeps no order with others and is not tried again. answered: with the reply, the Refusal, or None when
    there is none."""

    def arrive() -> None:
        reply: Any
        try:
            if not reach():
                raise Away
            reply = copied(service.call(method, copied(request)))
        except Refusal as refusal:
            reply = refusal
        except Away:
            reply = None
        timeline.after(latency_us(), back, reply, service.life)

    def back(reply: Any, life: int) -> None:
        answered(reply if reach() and life == service.life else None)

    timeline.after(latency_us(), arrive)
