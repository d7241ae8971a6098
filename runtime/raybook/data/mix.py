"""When a mix of datasets ends."""

from __future__ import annotations

import enum


class MixStoppingCondition(str, enum.Enum):
    """STOP_ON_SHORTEST: with the first dataset that ends. STOP_ON_LONGEST_DROP: with the last one; others are left out
    once they have ended."""

    STOP_ON_SHORTEST = "stop_on_shortest"
    STOP_ON_LONGEST_DROP = "stop_on_longest_drop"
