"""NodeLabelSchedulingStrategy: run on nodes whose labels match, in Ray's words; it becomes a label selector."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from raybook.base.label_selector import EXISTS


class _Operator:
    def condition(self) -> str:
        """As a label selector has it."""
        raise NotImplementedError

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(map(repr, getattr(self, 'values', ())))})"


class _WithValues(_Operator):
    def __init__(self, *values: str) -> None:
        name = type(self).__name__
        if not values:
            raise ValueError(
                f"The variadic parameter of the {name} operator must be a non-empty tuple: {name}('a', 'b')."
            )
        for position, value in enumerate(values):
            if not isinstance(value, str):
                raise ValueError(
                    f"Type of value in position {position} for the {name} operator must be str, but got {value!r}."
                )
        self.values = list(values)

    def _list(self) -> str:
        return f"in({', '.join(self.values)})"


class In(_WithValues):
    """One of these values."""

    def condition(self) -> str:
        return self._list()


class NotIn(_WithValues):
    """None of these values, or no such label."""

    def condition(self) -> str:
        return "!" + self._list()


class Exists(_Operator):
    """Any value."""

    def condition(self) -> str:
        return EXISTS


class DoesNotExist(_Operator):
    """No such label."""

    def condition(self) -> str:
        return "!" + EXISTS


class NodeLabelSchedulingStrategy:
    """``NodeLabelSchedulingStrategy({"region": In("us", "eu"), "gpu": Exists()})``. soft, Ray's wishes that need not be
    met, is refused: nodes are not ranked by labels here."""

    def __init__(self, hard: Mapping[str, Any], *, soft: Mapping[str, Any] | None = None) -> None:
        """ValueError for what is no such map, and for soft."""
        self.hard = _checked(hard, "hard")
        if _checked(soft, "soft"):
            raise ValueError(
                "NodeLabelSchedulingStrategy(soft=...) comes with a later version of raybook. Use `hard` for labels "
                "that are needed, and leave out the others."
            )
        if not self.hard:
            raise ValueError("The `hard` and `soft` parameter of NodeLabelSchedulingStrategy cannot both be empty.")

    def selector(self) -> dict[str, str]:
        """As a label selector."""
        return {key: operator.condition() for key, operator in self.hard.items()}

    def __repr__(self) -> str:
        return f"NodeLabelSchedulingStrategy({self.hard})"


def _checked(labels: Any, name: str) -> dict[str, _Operator]:
    if labels is None:
        return {}
    if not isinstance(labels, Mapping):
        raise ValueError(
            f'The {name} parameter must be a map (e.g. {{"key1": In("value1")}}) but got type {type(labels)}.'
        )
    for key, operator in labels.items():
        if not isinstance(key, str):
            raise ValueError(f"The map key of the {name} parameter must be of type str, but got {key!r}.")
        if not isinstance(operator, _Operator):
            raise ValueError(
                f"The map value for key {key} of the {name} parameter must be one of the `In`, `NotIn`, `Exists` or "
                f"`DoesNotExist` operator, but got {operator!r}."
            )
    return dict(labels)
