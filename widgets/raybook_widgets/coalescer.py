"""Coalescer: decides when to tick. Many changes become one tick; the last change is never left unshown.

Pure: time (milliseconds of any one clock) is handed in. Invariants: two ticks are at least a period apart; after a
change there is a tick; with no change there is none. ``note_change`` may come from any thread: the flag is taken down
before the tick looks at the data, so a change during a tick asks for another. Source: NOTEBOOK.md §4.2 (4 Hz, always a
final tick).
"""

from __future__ import annotations


class Coalescer:
    """When the next tick is due."""

    def __init__(self, period_ms: float) -> None:
        self._period_ms = period_ms
        self._last_tick_ms = float("-inf")
        self._pending = False

    def note_change(self) -> None:
        """Something to show has changed."""
        self._pending = True

    def until_tick_ms(self, now_ms: float) -> float | None:
        """Milliseconds until the next tick, 0 when it is due; None when there is nothing to show."""
        if not self._pending:
            return None
        return max(0.0, self._last_tick_ms + self._period_ms - now_ms)

    def begin_tick(self, now_ms: float) -> None:
        """A tick begins; changes from here on ask for the next one."""
        self._last_tick_ms = now_ms
        self._pending = False
