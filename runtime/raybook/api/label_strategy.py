"""Label strategies: a node chosen by its labels, in the older of Ray's two grammars.

``NodeLabelSchedulingStrategy(hard={"zone": In("a", "b")})`` says what the option ``label_selector`` says with
``{"zone": "in(a, b)"}``, and becomes just that. It knows the classes of the grammar and how they read as selectors.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from raybook.base.label_selector import DOES_NOT_EXIST, EXISTS, check_selector


def _checked_values(operator: str, values: tuple) -> list[str]:
    example = f'e.g. {operator}("value1", "value2")'
    if not values:
        raise ValueError(f"The variadic parameter of the {operator} operator must be a non-empty tuple: {example}.")
    for position, value in enumerate(values):
        if not isinstance(value, str):
            raise ValueError(
                f"Type of value in position {position} for the {operator} operator must be str ({example}) but got "
                f"{value!r} of type {type(value)}."
            )
    return list(values)


class In:
    """The label's value is one of these."""

    def __init__(self, *values: str) -> None:
        self.values = _checked_values("In", values)

    def condition(self) -> str:
        """As a label selector has it."""
        return f"in({', '.join(self.values)})"


class NotIn:
    """The label's value is none of these, or there is no such label."""

    def __init__(self, *values: str) -> None:
        self.values = _checked_values("NotIn", values)

    def condition(self) -> str:
        """As a label selector has it."""
        return f"!in({', '.join(self.values)})"


class Exists:
    """There is such a label."""

    def condition(self) -> str:
        """As a label selector has it."""
        return EXISTS


class DoesNotExist:
    """There is no such label."""

    def condition(self) -> str:
        """As a label selector has it."""
        return DOES_NOT_EXIST


class NodeLabelSchedulingStrategy:
    """Run on a node with these labels. hard: label key → ``In``, ``NotIn``, ``Exists`` or ``DoesNotExist``; all must
    hold. soft: the same; met where some node can, else left aside. ValueError for anything else."""

    def __init__(self, hard: Mapping[str, Any], *, soft: Mapping[str, Any] | None = None) -> None:
        self.hard = _checked_map("hard", hard)
        self.soft = _checked_map("soft", soft)
        if not (self.hard or self.soft):
            raise ValueError("The `hard` and `soft` parameter of NodeLabelSchedulingStrategy cannot both be empty.")

    def selectors(self) -> list[dict[str, str]]:
        """The label selectors to try in turn: with the soft conditions, then without."""
        hard = {key: operator.condition() for key, operator in self.hard.items()}
        soft = {key: operator.condition() for key, operator in self.soft.items()}
        return [{**soft, **hard}, hard] if soft else [hard]

    def __repr__(self) -> str:
        return f"NodeLabelSchedulingStrategy(hard={self.selectors()[-1]!r})"


def _checked_map(name: str, conditions: Any) -> Mapping[str, Any]:
    if conditions is None:
        return {}
    example = 'e.g. {"key1": In("value1")}'
    if not isinstance(conditions, Mapping):
        raise ValueError(f"The {name} parameter must be a map ({example}) but got type {type(conditions)}.")
    for key, operator in conditions.items():
        if not isinstance(key, str):
            raise ValueError(
                f"The map key of the {name} parameter must be of type str ({example}) but got {key!r} of type {type(key)}."
            )
        if not isinstance(operator, (In, NotIn, Exists, DoesNotExist)):
            raise ValueError(
                f"The map value for key {key} of the {name} parameter must be one of the `In`, `NotIn`, `Exists` or "
                f"`DoesNotExist` operator ({example}) but got {operator!r} of type {type(operator)}."
            )
        if isinstance(operator, (In, NotIn)):
            check_selector(name, {key: operator.condition()})
    return dict(conditions)
