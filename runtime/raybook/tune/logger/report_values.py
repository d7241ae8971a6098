"""Report values: what of a report a logger's service can keep."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from raybook.ml.core.metrics import flatten, is_number

STEP_KEYS = ("timesteps_total", "training_iteration")


def step_of(result: Mapping[str, Any]) -> int:
    """Return what counts a report's steps."""
    return int(next((result[key] for key in STEP_KEYS if result.get(key)), 0))


def finite_numbers(result: Mapping[str, Any]) -> dict[str, float]:
    """Return what a report has of numbers, flat, without its configuration."""
    flat = flatten({key: value for key, value in result.items() if key != "config"})
    return {name: float(value) for name, value in flat.items() if is_number(value) and math.isfinite(value)}
