"""Metrics: how reported numbers are named, compared and summarised.

Decides what "better" means for a metric and a mode, and keeps the running figures that a best-trial question
needs. Knows nothing of trials, files or time.
Invariants: NaN, infinities of the wrong sign and things that are no number rank below every finite value, in both
modes; a summary of n values costs O(1) memory.
Source: the scopes (`last`, `all`, `avg`, `last-5-avg`, `last-10-avg`) and the `a/b` spelling of nested metrics are
Ray Tune's, so that code written for it keeps its names.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

MODES = ("min", "max")
SCOPES = ("last", "all", "avg", "last-5-avg", "last-10-avg")
WORST = -math.inf


def check_mode(mode: object, where: str) -> None:
    """Refuse anything but 'min' or 'max'. where: the option's name, for the message. Raises ValueError."""
    if mode not in MODES:
        raise ValueError(f"{where} must be 'min' or 'max', not {mode!r}.")


def flatten(nested: Mapping[str, Any], separator: str = "/") -> dict[str, Any]:
    """Return one flat dict whose keys join the path of each leaf: {'a': {'b': 1}} becomes {'a/b': 1}.

    Empty mappings stay as leaves, so that nothing reported disappears. Cost: O(number of leaves).
    """
    flat: dict[str, Any] = {}
    for key, value in nested.items():
        if isinstance(value, Mapping) and value:
            for inner_key, inner_value in flatten(value, separator).items():
                flat[f"{key}{separator}{inner_key}"] = inner_value
        else:
            flat[str(key)] = value
    return flat


def lookup(result: Mapping[str, Any], name: str) -> Any:
    """Return the metric called name, spelled flat ('a/b') or as a top-level key. Raises KeyError if absent."""
    if name in result:
        return result[name]
    inner: Any = result
    for part in name.split("/"):
        if not isinstance(inner, Mapping) or part not in inner:
            raise KeyError(name)
        inner = inner[part]
    return inner


def has_metric(result: Mapping[str, Any], name: str) -> bool:
    """Ask whether result reports the metric called name (flat or nested)."""
    try:
        lookup(result, name)
    except KeyError:
        return False
    return True


def is_number(value: object) -> bool:
    """Ask whether value is an int or a float; True and False are answers, not measurements."""
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def score(value: object, mode: str) -> float:
    """Return value on a scale where higher is better; WORST for NaN and for what is no number."""
    if not is_number(value) or math.isnan(value):  # type: ignore[arg-type]
        return WORST
    return float(value) if mode == "max" else -float(value)  # type: ignore[arg-type]


def is_better(candidate: object, incumbent: object, mode: str) -> bool:
    """Ask whether candidate beats incumbent strictly. Ties keep the incumbent, so the earliest one wins."""
    return score(candidate, mode) > score(incumbent, mode)


def percentile(values: list[float], fraction: float) -> float:
    """Return the linearly interpolated quantile of values, fraction in [0, 1]. Raises ValueError if empty.

    The same arithmetic as numpy's default (`linear`), which the published rung cut-offs use.
    """
    return percentile_of_sorted(sorted(values), fraction)


def percentile_of_sorted(ordered: list[float], fraction: float) -> float:
    """Like percentile, of values that are in order already. Cost: O(1)."""
    if not ordered:
        raise ValueError("percentile of no values")
    position = fraction * (len(ordered) - 1)
    below = math.floor(position)
    above = min(below + 1, len(ordered) - 1)
    weight = position - below
    if weight == 0 or ordered[below] == ordered[above]:
        return ordered[below]
    return ordered[below] * (1 - weight) + ordered[above] * weight


@dataclass
class MetricSummary:
    """Running figures of one metric of one trial: what the scopes of a best-result question need."""

    count: int = 0
    last: float = math.nan
    minimum: float = math.nan
    maximum: float = math.nan
    total: float = 0.0
    recent: deque[float] = field(default_factory=lambda: deque(maxlen=10))

    def add(self, value: float) -> None:
        """Take one more reported value. NaN becomes the last value and leaves minimum and maximum alone."""
        value = float(value)
        self.count += 1
        self.last = value
        self.total += value
        self.recent.append(value)
        if math.isnan(value):
            return
        self.minimum = value if math.isnan(self.minimum) else min(self.minimum, value)
        self.maximum = value if math.isnan(self.maximum) else max(self.maximum, value)

    def value(self, scope: str, mode: str) -> float:
        """Return the figure that stands for this metric under scope. Raises ValueError for an unknown scope."""
        if scope == "last":
            return self.last
        if scope == "all":
            return self.maximum if mode == "max" else self.minimum
        if scope == "avg":
            return self.total / self.count if self.count else math.nan
        if scope in ("last-5-avg", "last-10-avg"):
            window = list(self.recent)[-5:] if scope == "last-5-avg" else list(self.recent)
            return sum(window) / len(window) if window else math.nan
        raise ValueError(f"scope must be one of {', '.join(SCOPES)}, not {scope!r}.")
