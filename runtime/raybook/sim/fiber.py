"""Fiber: a user's thread in virtual time: a generator that is parked at each ``yield`` until somebody wakes it.

Whoever parks it first arranges for its waking with ``waker``. Knows nothing of what it runs. Invariants: a waker works
once, and only for the park it was made for; an interrupt reaches the code at its next step and is not lost.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import Any

from raybook.sim.timeline import Timeline

Program = Generator[None, Any, Any]


class Fiber:
    """on_end(result): the program returned; what it raises goes through to who runs the timeline. delay_us: how long a
    wake-up takes."""

    __slots__ = ("_delay_us", "_interrupt", "_on_end", "_program", "_timeline", "_turn", "is_over")

    def __init__(
        self,
        timeline: Timeline,
        program: Program,
        delay_us: Callable[[], int],
        on_end: Callable[[Any], None],
    ) -> None:
        self.is_over = False
        self._timeline = timeline
        self._program = program
        self._delay_us = delay_us
        self._on_end = on_end
        self._turn = 0
        self._interrupt: BaseException | None = None

    def start(self) -> None:
        """Begin in a moment."""
        self.waker()(None)

    def waker(self) -> Callable[..., None]:
        """What wakes the fiber out of its next park, or the present one, with a value."""
        turn = self._turn
        return lambda value=None: self._wake(turn, value)

    def _wake(self, turn: int, value: Any) -> None:
        if turn == self._turn and not self.is_over:
            self._timeline.after(self._delay_us(), self._resume, turn, value)

    def interrupt(self, error: BaseException) -> None:
        """Raise this in the program when it runs next, and let that be soon."""
        self._interrupt = error
        self._wake(self._turn, None)

    def end(self) -> None:
        """Its process is dead: it never runs again. May be called by the program itself."""
        if not self.is_over:
            self.is_over = True
            self._timeline.after(0, self._program.close)

    def _resume(self, turn: int, value: Any) -> None:
        if turn != self._turn or self.is_over:
            return
        self._turn += 1
        error, self._interrupt = self._interrupt, None
        try:
            if error is None:
                self._program.send(value)
            else:
                self._program.throw(error)
        except StopIteration as end:
            self.is_over = True
            self._on_end(end.value)
