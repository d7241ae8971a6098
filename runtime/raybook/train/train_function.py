"""Train function: the user's function with its configuration, checked where the user wrote it."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class TrainFunction:
    """A function of the configuration, or of nothing."""

    function: Callable[..., Any]
    config: dict[str, Any] | None
    takes_config: bool

    def call(self) -> Any:
        """Run it."""
        return self.function(self.config or {}) if self.takes_config else self.function()


def as_train_function(function: Callable[..., Any], config: dict[str, Any] | None, name: str) -> TrainFunction:
    """Return the function ready to be called. name: of the argument, for the message.

    Raises TypeError for what is no function, ValueError for one with more than one required parameter.
    """
    if not callable(function):
        raise TypeError(f"{name} must be a function of the configuration, or of nothing, not {function!r}.")
    required = _required_parameters(function)
    if required > 1:
        raise ValueError(
            f"{name} should take in 0 or 1 required arguments, but it accepts {required} required arguments instead."
        )
    return TrainFunction(function, config, required == 1)


def _required_parameters(function: Callable[..., Any]) -> int:
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        return 1  # Some builtins have no signature; the call will tell.
    positional = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    return sum(each.default is inspect.Parameter.empty and each.kind in positional for each in parameters)
