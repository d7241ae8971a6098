"""Scheduling strategies, where Ray's users find them. Defined in ``api/strategies``."""

from raybook.api.strategies import NodeAffinitySchedulingStrategy, PlacementGroupSchedulingStrategy

SchedulingStrategyT = str | NodeAffinitySchedulingStrategy | PlacementGroupSchedulingStrategy | None
"""What the option ``scheduling_strategy`` takes: "DEFAULT", "SPREAD", or one of the classes."""

__all__ = ["NodeAffinitySchedulingStrategy", "PlacementGroupSchedulingStrategy", "SchedulingStrategyT"]
