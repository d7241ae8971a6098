"""Registry: trainables and environments by name, for code that asks for them by a string.

Names are known to this process; what a name stands for travels to the trials with the trainable. Decides nothing.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from raybook.tune.error import TrainableTypeError
from raybook.tune.trainable import Trainable
from raybook.tune.trainable_spec import TrainableSpec, as_spec


class Registry:
    """Values of one kind by name; registering again replaces."""

    def __init__(self, kind: str) -> None:
        self._kind = kind
        self._values: dict[str, Any] = {}

    def register(self, name: str, value: Any) -> None:
        """Enter a value. Raises TypeError for a name that is no text."""
        if not isinstance(name, str) or not name:
            raise TypeError(f"A {self._kind} is registered under a name, not under {name!r}.")
        self._values[name] = value

    def get(self, name: str) -> Any:
        """Return the value. Raises TrainableTypeError, naming those there are."""
        if name not in self._values:
            known = ", ".join(sorted(self._values)) or "none"
            raise TrainableTypeError(f"Unknown {self._kind}: {name!r}. Registered are: {known}.")
        return self._values[name]

    def __contains__(self, name: object) -> bool:
        return name in self._values


# One of each a process: what a user registers is meant for every sweep in it.
trainables = Registry("trainable")
environments = Registry("environment")


def register_trainable(name: str, trainable: Callable[..., Any] | type, warn: bool = True) -> None:
    """Let `tune.run(name)` and `Tuner(name)` find a function or Trainable class by name."""
    if not inspect.isclass(trainable) and not callable(trainable) and not isinstance(trainable, TrainableSpec):
        raise TypeError(f"Second argument must be a function or a Trainable class, not {trainable!r}.")
    if inspect.isclass(trainable) and not issubclass(trainable, Trainable):
        raise TypeError(f"A trainable class must derive from tune.Trainable, and {trainable.__name__} does not.")
    trainables.register(name, as_spec(trainable))


def register_env(name: str, env_creator: Callable[..., Any]) -> None:
    """Let RLlib's configurations find an environment by name. env_creator: a function of the environment's config."""
    if not callable(env_creator):
        raise TypeError(f"Second argument must be a function that makes an environment, not {env_creator!r}.")
    environments.register(name, env_creator)


def resolve_trainable(trainable: Any) -> TrainableSpec:
    """Return the specification of a trainable given as such or by its registered name."""
    return trainables.get(trainable) if isinstance(trainable, str) else as_spec(trainable)
