"""Trainable specification: the user's function or class together with the resources and big values it needs.

Made by `with_resources` and `with_parameters`, in any order; travels to the trial's process. Checks the shape of the
trainable where the user wrote it.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from raybook import api
from raybook.tune.core.resource_request import ResourceRequest, as_request
from raybook.tune.error import TrainableTypeError
from raybook.tune.trainable import Trainable

Resources = Mapping[str, float] | ResourceRequest | Callable[[Mapping[str, Any]], Any]


@dataclass(frozen=True)
class TrainableSpec:
    """A trainable with what belongs to it. parameters: names to object references, fetched in the trial's process."""

    target: Callable[..., Any]
    parameters: dict[str, Any] = field(default_factory=dict)
    resources: Resources | None = None

    @property
    def name(self) -> str:
        """The name that trials and folders carry."""
        return getattr(self.target, "__name__", type(self.target).__name__).strip("<>")

    @property
    def __name__(self) -> str:
        return self.name

    @property
    def is_class(self) -> bool:
        """Ask whether the target is a subclass of Trainable."""
        return inspect.isclass(self.target) and issubclass(self.target, Trainable)

    def resolve_parameters(self) -> dict[str, Any]:
        """Fetch the parameters' values. Cost: shared memory, no copy for arrays."""
        names = list(self.parameters)
        return dict(zip(names, api.get([self.parameters[name] for name in names]), strict=True)) if names else {}

    def request_for(self, config: Mapping[str, Any]) -> Any:
        """Return the resources of a trial with this configuration; one CPU unless asked otherwise."""
        asked: Any = self.resources
        if asked is None and self.is_class:
            asked = self.target.default_resource_request(dict(config))  # type: ignore[attr-defined]
        if callable(asked) and not isinstance(asked, ResourceRequest):
            asked = asked(config)
        return {"CPU": 1.0} if asked is None else asked

    def __call__(self, config: dict[str, Any]) -> Any:
        """Run the trainable here, as one would the bare function: for a try before a sweep."""
        return self.target(config, **self.resolve_parameters())


def as_spec(trainable: object) -> TrainableSpec:
    """Return the specification of what a user gave as a trainable. Raises TypeError for what cannot be one."""
    if isinstance(trainable, TrainableSpec):
        return trainable
    if inspect.isclass(trainable):
        if not issubclass(trainable, Trainable):
            raise TrainableTypeError(
                f"A trainable class must derive from tune.Trainable, and {trainable.__name__} does not. "
                "Or give a function that takes the configuration."
            )
        return TrainableSpec(trainable)
    if hasattr(trainable, "as_trainable"):
        # A trainer of Train: its workers hold the resources, in a placement group of their own, and the trial none.
        return TrainableSpec(trainable.as_trainable(), resources={"CPU": 0})
    if not callable(trainable):
        raise TrainableTypeError(
            f"A trainable is a function of the configuration or a tune.Trainable class, not {trainable!r}."
        )
    _check_signature(trainable)
    return TrainableSpec(trainable)


def with_resources(trainable: object, resources: Resources) -> TrainableSpec:
    """Return the trainable with resources for each trial: {"cpu": 2}, a PlacementGroupFactory, or a function
    of the configuration that returns one of these.

    Raises TypeError for a trainable or resources of another shape.
    """
    if not callable(resources) or isinstance(resources, ResourceRequest):
        resources = as_request(resources)
    return replace(as_spec(trainable), resources=resources)


def with_parameters(trainable: object, **kwargs: Any) -> TrainableSpec:
    """Return the trainable with values stored once in the cluster and handed to every trial by keyword.

    Functions get them as arguments, classes as arguments of `setup`. Cost: one put a value, here and now.
    """
    spec = trainable if isinstance(trainable, TrainableSpec) else TrainableSpec(trainable)  # type: ignore[arg-type]
    if not spec.is_class:
        _check_signature(spec.target, {*spec.parameters, *kwargs})
    else:
        as_spec(trainable)
    references = {name: api.put(value) for name, value in kwargs.items()}
    return replace(spec, parameters={**spec.parameters, **references})


def _check_signature(function: Callable[..., Any], parameters: set[str] | frozenset[str] = frozenset()) -> None:
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):
        return  # Some builtins have none; the call will tell.
    try:
        signature.bind({}, **dict.fromkeys(parameters))
    except TypeError as error:
        name = getattr(function, "__name__", repr(function))
        extra = f" and the parameters {sorted(parameters)}" if parameters else ""
        raise TrainableTypeError(
            f"A trainable is called with the configuration as its one argument{extra}, and {name}{signature} "
            f"cannot be: {error}."
        ) from None
