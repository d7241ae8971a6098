"""Seeds: the same seed gives the same rows in the same order, whatever the number of workers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass
class RandomSeedConfig:
    """seed: of the randomness. reseed_after_execution: whether each execution (each epoch) draws anew, from the seed
    and the number of the execution."""

    seed: int | None = None
    reseed_after_execution: bool = True


def seed_value(seed: Any) -> int | None:
    """A seed as a number. TypeError for what is none."""
    if isinstance(seed, RandomSeedConfig):
        return seed.seed
    if seed is None or (isinstance(seed, int) and not isinstance(seed, bool)):
        return seed
    raise TypeError(f"A seed is an integer or None, got {seed!r}.")


def block_rng(seed: Any, index: int) -> np.random.Generator:
    """The generator of one block or task."""
    value = seed_value(seed)
    return np.random.default_rng(None if value is None else (value, index))
