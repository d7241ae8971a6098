"""What a table of latest rows cannot say: how fast things end, and how a metric went. Small, bounded, pure.

Time is handed in (milliseconds of any one clock). Invariants: at most SAMPLES_MAX samples a key, at most POINTS_MAX
points a trial.
"""

from __future__ import annotations

import math
from collections import deque

RATE_WINDOW_MS = 3_000
"""Long enough to be read, short enough to show a stall: twelve ticks at 4 Hz."""
ELAPSED_MS_MIN = 250.0
"""Facts come at most this often; a shorter stretch would show a rate that never was."""
SAMPLES_MAX = 32
POINTS_MAX = 60
"""A sparkline is some 100 pixels wide; more points would only fatten the messages."""


class Rates:
    """Things ended per second, by key, over the last three seconds."""

    def __init__(self) -> None:
        self._samples: dict[str, deque[tuple[float, int]]] = {}

    def note(self, key: str, ended: int, now_ms: float) -> None:
        """``ended`` things of this key have ended by now. A smaller number than before starts afresh."""
        samples = self._samples.get(key)
        if samples is None:
            samples = self._samples[key] = deque(maxlen=SAMPLES_MAX)
        if samples and ended < samples[-1][1]:
            samples.clear()
        if not samples or ended != samples[-1][1]:
            samples.append((now_ms, ended))

    def per_second(self, key: str, now_ms: float) -> float:
        """0.0 when nothing ended within the window, or when only one moment is known."""
        samples = self._samples.get(key)
        if not samples or len(samples) < 2 or now_ms - samples[-1][0] > RATE_WINDOW_MS:
            return 0.0
        base = samples[0]
        for sample in samples:
            if now_ms - sample[0] <= RATE_WINDOW_MS:
                break
            base = sample
        elapsed_ms = now_ms - base[0]
        if elapsed_ms > 2 * RATE_WINDOW_MS:
            # Idle before: a burst after an idle hour is not averaged over the hour.
            elapsed_ms = RATE_WINDOW_MS
        return (samples[-1][1] - base[1]) * 1_000.0 / max(elapsed_ms, ELAPSED_MS_MIN)

    def now(self, now_ms: float) -> dict[str, float]:
        """The keys that move, with their rates. Cost: O(keys)."""
        rates = {key: self.per_second(key, now_ms) for key in self._samples}
        return {key: rate for key, rate in rates.items() if rate}

    def forget(self, key: str) -> None:
        """The thing is gone."""
        self._samples.pop(key, None)


class Curve:
    """A metric over steps. When full, every second point goes, so old and new are thinned alike."""

    def __init__(self) -> None:
        self.points: list[float] = []
        self._last_step: int | None = None

    def note(self, step: int, value: float) -> None:
        """The value at a step; a step seen before only corrects its value. Not-a-number is left out: it cannot be
        drawn, and the trial's own row shows it."""
        if not math.isfinite(value):
            return
        if step == self._last_step and self.points:
            self.points[-1] = value
            return
        self._last_step = step
        self.points.append(value)
        if len(self.points) > POINTS_MAX:
            self.points = thinned(self.points, POINTS_MAX // 2)


def thinned(points: list[float], count_max: int) -> list[float]:
    """At most ``count_max`` of the points, evenly chosen, with the first and the last among them."""
    if len(points) <= count_max:
        return list(points)
    step = (len(points) - 1) / (count_max - 1)
    return [points[round(index * step)] for index in range(count_max)]
