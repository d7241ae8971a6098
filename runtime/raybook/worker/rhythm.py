"""Rhythm: how long the I/O loop may sleep before it looks after what can wait some milliseconds.

Looked after by the timer: references that were let go without a word, extents that have long been idle, answers that a
long task keeps waiting, facts. In a worker whose code is at rest none of these can come up by itself, so it sleeps for
seconds; a message wakes it all the same, and the rhythm begins anew.
"""

from __future__ import annotations

from raybook.worker.executor_base import Executor

IDLE_WAIT_MS = 500
"""Longest sleep: released references wait at most this long to be noticed when nothing else happens."""
REST_WAIT_MS = 5_000
"""Longest sleep of a worker at rest: a thousand idle actors cost 3 % of a core, not 20 (benchmarks/idle.py)."""
TURNS_BEFORE_REST = 3
"""So many sleeps of ``IDLE_WAIT_MS`` come first: what has just been let go is given back soon."""
BUSY_WAIT_MS = 20
"""Sleep after activity: releases that follow a burst are handled soon, without a wake-up for each."""
EXECUTOR_WAIT_MS = 5
"""Sleep while tasks run here: replies that a long one keeps waiting are sent after this at the latest."""


class Rhythm:
    """One per I/O loop. ``due_ms``: when the timer is due, in the loop's time."""

    __slots__ = ("_idle_turns", "due_ms")

    def __init__(self) -> None:
        self.due_ms = 0
        self._idle_turns = 0

    def hurry(self) -> None:
        """Something came that the timer looks after."""
        self.due_ms = self._idle_turns = 0

    def heard(self, now_ms: int) -> None:
        """A peer spoke: perhaps of work for the executor, whose answers the timer looks after. Not at once: a loop of
        synchronous calls speaks after every rest, and would pay for a look each time."""
        if self._idle_turns:
            self._idle_turns = 0
            self.due_ms = min(self.due_ms, now_ms + EXECUTOR_WAIT_MS)

    def acted(self, now_ms: int) -> None:
        """The owner machine had something to do."""
        self.due_ms = min(self.due_ms, now_ms + BUSY_WAIT_MS)

    def rest(self, now_ms: int, is_busy: bool, wait_ms_max: int, executor: Executor | None) -> None:
        """The timer has looked. wait_ms_max: what others allow. Cost: 0.3 µs."""
        wait_ms = BUSY_WAIT_MS if is_busy else IDLE_WAIT_MS
        if executor is not None:
            self._idle_turns = 0 if is_busy else self._idle_turns + 1
            if executor.is_busy():
                wait_ms = EXECUTOR_WAIT_MS
            elif self._idle_turns > TURNS_BEFORE_REST and executor.is_at_rest():
                wait_ms = REST_WAIT_MS
        self.due_ms = now_ms + max(1, min(wait_ms, wait_ms_max))
