"""Meter: how many decisions of which kind were made, and what they cost by a clock of the caller's."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


class Meter:
    """clock: seconds; one that counts this process's own is best."""

    __slots__ = ("_clock", "counts", "seconds")

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self.counts: dict[str, int] = {}
        self.seconds: dict[str, float] = {}

    def run(self, kind: str, decide: Callable[..., Any], *arguments: Any) -> Any:
        """Have a machine decide."""
        begin_s = self._clock()
        result = decide(*arguments)
        self.seconds[kind] = self.seconds.get(kind, 0.0) + self._clock() - begin_s
        self.counts[kind] = self.counts.get(kind, 0) + 1
        return result

    def microseconds(self, kind: str) -> float:
        """Of one decision, on the average."""
        return 1e6 * self.seconds.get(kind, 0.0) / max(1, self.counts.get(kind, 0))
