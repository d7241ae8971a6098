"""Scheduling strategies, where Ray's users find them. Defined in ``api/strategies`` and ``api/label_strategy``."""

from raybook.api.label_strategy import DoesNotExist, Exists, In, NodeLabelSchedulingStrategy, NotIn
from raybook.api.strategies import NodeAffinitySchedulingStrategy, PlacementGroupSchedulingStrategy

SchedulingStrategyT = (
    str | NodeAffinitySchedulingStrategy | PlacementGroupSchedulingStrategy | NodeLabelSchedulingStrategy | None
)
"""What the option ``scheduling_strategy`` takes: "DEFAULT", "SPREAD", or one of the classes."""

LabelMatchExpressionsT = dict[str, In | NotIn | Exists | DoesNotExist]
"""What the parameters of ``NodeLabelSchedulingStrategy`` take."""

__all__ = [
    "DoesNotExist",
    "Exists",
    "In",
    "LabelMatchExpressionsT",
    "NodeAffinitySchedulingStrategy",
    "NodeLabelSchedulingStrategy",
    "NotIn",
    "PlacementGroupSchedulingStrategy",
    "SchedulingStrategyT",
]
