"""Assignment: one request on its way to a replica: not sent yet, sent (with the reference of its result), or refused.

It is made in the caller's thread and settled in that one or in the dispatcher's; whoever waits is woken once. It does not
know which replica is the right one.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Any

WAITING, SENT, REFUSED = "WAITING", "SENT", "REFUSED"


class Assignment:
    """method: its name; call: what the replica is told beside the arguments (see `replica.handle_request`)."""

    __slots__ = ("_callbacks", "_lock", "args", "call", "error", "is_cancelled", "kwargs", "model_id", "over", "ref",
                 "request_id", "slot", "state", "verb")  # fmt: skip

    def __init__(
        self, verb: str, call: tuple, request_id: str, model_id: str, args: tuple, kwargs: dict[str, Any]
    ) -> None:
        self.verb = verb
        """Which method of the replica's actor is called."""
        self.call = call
        self.request_id = request_id
        self.model_id = model_id
        self.args = args
        self.kwargs = kwargs
        self.state = WAITING
        self.ref: Any = None
        """An ObjectRef, or an ObjectRefGenerator of a stream."""
        self.error: BaseException | None = None
        self.slot: Any = None
        """The replica that has it."""
        self.is_cancelled = False
        self.over = False
        """Its result has been taken, or it failed: it no longer counts as running."""
        self._callbacks: list[Callable[[], None]] = []
        self._lock = threading.Lock()

    def sent(self, ref: Any) -> None:
        """A replica has it."""
        self.ref = ref
        self._settle(SENT)

    def refuse(self, error: BaseException) -> None:
        """No replica will have it."""
        self.error = error
        self._settle(REFUSED)

    def _settle(self, state: str) -> None:
        with self._lock:
            if self.state != WAITING:
                return
            self.state = state
            callbacks, self._callbacks = self._callbacks, []
        for callback in callbacks:
            callback()

    def when_settled(self, callback: Callable[[], None]) -> None:
        """Call back once it is sent or refused: at once when it is, else in the thread that settles it."""
        with self._lock:
            if self.state == WAITING:
                self._callbacks.append(callback)
                return
        callback()

    def wait(self, timeout_s: float | None) -> bool:
        """Block until it is settled; False when the time is over."""
        if self.state != WAITING:
            return True
        settled = threading.Event()
        self.when_settled(settled.set)
        return settled.wait(timeout_s)

    async def settled(self) -> None:
        """The same on an event loop."""
        if self.state != WAITING:
            return
        loop = asyncio.get_running_loop()
        future = loop.create_future()

        def wake() -> None:
            if not future.done():
                future.set_result(None)

        def on_settled() -> None:
            if not loop.is_closed():
                loop.call_soon_threadsafe(wake)

        self.when_settled(on_settled)
        await future
