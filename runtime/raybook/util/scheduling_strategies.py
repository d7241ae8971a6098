"""Scheduling strategies, where Ray's users find them. Defined in ``api/strategies``."""

from raybook.api.strategies import NodeAffinitySchedulingStrategy

__all__ = ["NodeAffinitySchedulingStrategy"]
