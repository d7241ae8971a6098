"""Loop selector: what an asyncio loop sleeps in when its thread also turns the I/O loop of its process.

An async actor's event loop would otherwise be told of each call by the I/O thread: one wake-up more for each. So its
selector sleeps in the core process's epoll, as a sync worker's main thread does, and the selector's own epoll (timers
aside: the user's sockets, and the loop's waker) is one of the descriptors watched there. Knows nothing of calls or of
what arrives.

A loop that is busy leaves the baton to the I/O thread after some milliseconds (see ``baton``), which then tells it of
what has come by its waker; as soon as the loop sleeps again, it leads again.

Invariants: all but ``note`` runs on the loop's thread. ``has_events`` is raised by the baton's holder only, so that a
holder that saw it down may sleep: the edge of a later event ends that sleep.
"""

from __future__ import annotations

from collections.abc import Callable
from selectors import EpollSelector, SelectorKey

from raybook.worker.core_process import CoreProcess


class LoopSelector(EpollSelector):
    """For one loop, which is the main thread's. on_turn: called after each turn of the I/O loop."""

    def __init__(self, core: CoreProcess) -> None:
        super().__init__()
        self._core = core
        self.on_turn: Callable[[], None] = _nothing
        self.has_events = True
        """The own epoll may have something: it is asked until it has nothing."""
        self.is_turning = False
        """This thread turns the I/O loop, and will call ``on_turn``: nobody need wake it. Any thread may ask."""
        core.watch(self.fileno(), self.note)

    def note(self) -> None:
        """The own epoll has become readable."""
        self.has_events = True

    def select(self, timeout: float | None = None) -> list[tuple[SelectorKey, int]]:
        """What has become ready among the loop's own descriptors. timeout: seconds; None: for ever."""
        if self._core.leading.turn(self, timeout):
            self.on_turn()
        elif not self.has_events:
            # Another thread turns the I/O loop, and nobody here may sleep.
            return super().select(0)
        if not self.has_events:
            return []
        events = super().select(0)
        self.has_events = bool(events)
        return events

    def close(self) -> None:
        self._core.unwatch(self.fileno())
        super().close()


def _nothing() -> None:
    pass
