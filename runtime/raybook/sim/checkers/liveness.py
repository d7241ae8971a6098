"""Liveness: every wait ends: with a value, an error, or its own time-out, within a bounded virtual time.

What is bounded is the time since the wait began or the latest fault of the schedule struck, whichever is later.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from raybook.base.ids import owner_of
from raybook.core.owner.records import Wait
from raybook.sim.checkers.violation import Violation
from raybook.sim.handles import Handle

if TYPE_CHECKING:
    from raybook.sim.process import Process
    from raybook.sim.world import World

WAIT_MS_MAX = 60_000
"""Longer than all time-outs of machines one after the other, and than the work of a run on one CPU."""


class Liveness:
    """One per world."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._waiting: dict[int, tuple[Process, Wait, int]] = {}

    def begins(self, process: Process, wait: Wait, timeout_ms: int | None) -> None:
        """User code blocks."""
        self._waiting[id(wait)] = (process, wait, self._world.timeline.now_ms)

    def ends(self, wait: Wait) -> None:
        """It goes on."""
        self._waiting.pop(id(wait), None)

    def check(self) -> None:
        """Nobody waits too long."""
        now_ms = self._world.timeline.now_ms
        for process, wait, since_ms in self._waiting.values():
            if process.is_alive and now_ms - max(since_ms, self._world.last_fault_ms) > WAIT_MS_MAX:
                raise self._stuck(process, wait, since_ms)

    def stuck(self) -> Violation | None:
        """The first that waits, when nothing happens any more."""
        for process, wait, since_ms in self._waiting.values():
            if process.is_alive:
                return self._stuck(process, wait, since_ms)
        return None

    def _stuck(self, process: Process, wait: Wait, since_ms: int) -> Violation:
        values = process.owner.objects.values
        missing = [key for key in wait.ids if key not in values]
        if not missing:
            text = f"{process.name} waits since {since_ms} ms for what is all there: nobody woke it"
            return Violation("liveness", text, *wait.ids[:3])
        reasons = []
        for key in missing[:3]:
            owner = self._world.processes.get(owner_of(key))
            reasons.append(f"{key.hex()}: {process.owner.explain(key)}")
            if owner is not None and owner is not process:
                state = owner.owner.explain(key) if owner.is_alive else "dead"
                reasons.append(f"its owner {owner.name}: {state}")
        text = f"{process.name} waits since {since_ms} ms; " + "; ".join(reasons)
        return Violation("liveness", text, *missing[:3])

    def got(self, process: Process, handles: Sequence[Handle], is_done: bool, got: Sequence[Any]) -> None:
        """A get returned: with all values, or an error among them, or by time-out."""
        if is_done and any(each is None for each in got) and not any(e is not None and e.error for e in got):
            missing = [handle.key for handle, each in zip(handles, got, strict=True) if each is None]
            text = f"a get of {process.name} ended without {missing[0].hex()}, an error or a time-out"
            raise Violation("liveness", text, *missing)
