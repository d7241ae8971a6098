"""Autoscaling: how many replicas a deployment should have, from how many requests it has. Whole milliseconds.

It decides from a window of samples (requests that run or wait) and its own memory of since when it has wanted another
number. It does not know replicas, clocks or who measures. Invariants: min ≤ answer ≤ max; an answer changes only after
the wish has pointed the same way for the whole delay; from zero up there is no delay; down to zero only from one.
Source: Ray's default policy (`autoscaling_policy.py`): ceil(requests / target), factors on the difference, delays.
"""

from __future__ import annotations

import math
from collections import deque

import msgspec

from raybook.serve.core.target import ScalingLimits

DECISIONS_KEPT = 20


class Decision(msgspec.Struct, frozen=True):
    """One change of the number of replicas."""

    at_ms: int
    before: int
    after: int
    reason: str


class Autoscaler:
    """Of one deployment. Times are milliseconds of any clock that never goes back."""

    def __init__(self, limits: ScalingLimits, replicas: int) -> None:
        self.limits = limits
        self.target = replicas
        self.decisions: deque[Decision] = deque(maxlen=DECISIONS_KEPT)
        self._samples: deque[tuple[int, float]] = deque()
        self._wish_since_ms: int | None = None
        self._wish_direction = 0

    def change_limits(self, limits: ScalingLimits) -> None:
        """A new config: the number in force is kept inside its bounds."""
        self.limits = limits
        self.target = self._bounded(self.target)

    def observe(self, now_ms: int, requests: float) -> None:
        """One sample: requests that run or wait, over all replicas and callers."""
        self._samples.append((now_ms, requests))
        horizon = now_ms - self.limits.look_back_ms
        while self._samples[0][0] < horizon:
            self._samples.popleft()

    def load(self) -> float:
        """The window as one number."""
        values = [value for _, value in self._samples]
        if not values:
            return 0.0
        if self.limits.aggregation == "max":
            return max(values)
        if self.limits.aggregation == "min":
            return min(values)
        return sum(values) / len(values)

    def latest(self) -> float:
        """The last sample."""
        return self._samples[-1][1] if self._samples else 0.0

    def wanted(self, running: int) -> int:
        """What the load alone asks for, with the factors, before bounds and delays."""
        limits, load = self.limits, self.load()
        if running == 0:
            return math.ceil(load / limits.target_ongoing_requests)
        desired = load / limits.target_ongoing_requests
        factor = limits.upscaling_factor if desired > running else limits.downscaling_factor
        scaled = math.ceil(running + factor * (desired - running) - 1e-9)
        if math.ceil(desired) < running and scaled == running:
            scaled -= 1
        return scaled

    def decide(self, now_ms: int, running: int) -> int:
        """The number of replicas from now on."""
        if self.target == 0 and self.latest() > 0:
            first = max(1, math.ceil(self.limits.upscaling_factor))
            return self._settle(now_ms, self._bounded(first), "a request came while there was no replica")
        return self.decide_wish(
            now_ms, self.wanted(max(running, self.target)), f"{self.load():.2f} requests on average"
        )

    def decide_wish(self, now_ms: int, wish: int, reason: str) -> int:
        """The same for a number that somebody else (a custom policy) wishes for."""
        wish = self._bounded(wish)
        if wish < self.target and self.target > 1:
            wish = max(1, wish)
        if wish == self.target:
            self._wish_since_ms, self._wish_direction = None, 0
            return self.target
        direction = 1 if wish > self.target else -1
        if direction != self._wish_direction:
            self._wish_since_ms, self._wish_direction = now_ms, direction
        assert self._wish_since_ms is not None
        delay_ms = self._delay_ms(direction)
        if now_ms - self._wish_since_ms < delay_ms:
            return self.target
        return self._settle(now_ms, wish, f"{reason}, for {delay_ms} ms")

    def next_deadline_ms(self) -> int | None:
        """When a wish that lasts becomes a decision; None when there is none."""
        if self._wish_since_ms is None:
            return None
        return self._wish_since_ms + self._delay_ms(self._wish_direction)

    def check_invariants(self) -> None:
        """AssertionError when the number in force is out of bounds."""
        assert self.limits.min_replicas <= self.target <= self.limits.max_replicas, self.target

    def _delay_ms(self, direction: int) -> int:
        limits = self.limits
        if direction > 0:
            return limits.upscale_delay_ms
        if self.target == 1 and limits.downscale_to_zero_delay_ms is not None:
            return limits.downscale_to_zero_delay_ms
        return limits.downscale_delay_ms

    def _settle(self, now_ms: int, count: int, reason: str) -> int:
        self._wish_since_ms, self._wish_direction = None, 0
        if count != self.target:
            self.decisions.append(Decision(now_ms, self.target, count, reason))
            self.target = count
        return count

    def _bounded(self, count: int) -> int:
        return max(self.limits.min_replicas, min(self.limits.max_replicas, count))
