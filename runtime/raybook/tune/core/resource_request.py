"""Resource request: what one trial holds while it runs, as one bundle or several.

Decides how a user's words (a dict, in Ray's spelling or ours, or a factory of a placement group) are read. The first
bundle is the trial's own process, the others are for the workers that it starts.
Invariant: amounts are positive floats under the cluster's names.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from raybook.tune.core.capacity import normalise


class ResourceRequest:
    """Bundles and how to place them. strategy: PACK, SPREAD, STRICT_PACK or STRICT_SPREAD."""

    def __init__(
        self, bundles: Sequence[Mapping[str, float]], strategy: str = "PACK", *args: Any, **kwargs: Any
    ) -> None:
        if isinstance(bundles, Mapping) or not bundles:
            raise ValueError(f"A resource request needs a list of at least one bundle, not {bundles!r}.")
        named = [normalise(bundle) for bundle in bundles]
        self.head_bundle_is_empty = not named[0]
        self._bundles = [bundle for bundle in named if bundle] or []
        if not self._bundles and len(named) > 1:
            raise ValueError("Every bundle of this resource request is empty; give at least one some resource.")
        self.strategy = strategy
        self._args, self._kwargs = args, kwargs

    @property
    def bundles(self) -> list[dict[str, float]]:
        """The bundles with something in them."""
        return [dict(bundle) for bundle in self._bundles]

    @property
    def head_cpus(self) -> float:
        """CPUs of the trial's own process."""
        return 0.0 if self.head_bundle_is_empty else self._bundles[0].get("CPU", 0.0)

    @property
    def required_resources(self) -> dict[str, float]:
        """The sum over all bundles."""
        total: dict[str, float] = {}
        for bundle in self._bundles:
            for name, amount in bundle.items():
                total[name] = total.get(name, 0.0) + amount
        return total

    @property
    def head(self) -> dict[str, float]:
        """What the trial's own process holds."""
        return {} if self.head_bundle_is_empty else dict(self._bundles[0])

    @property
    def needs_group(self) -> bool:
        """Ask whether a placement group is needed: one bundle is the actor's own resources."""
        return len(self._bundles) > (0 if self.head_bundle_is_empty else 1)

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, ResourceRequest)
            and self._bundles == other._bundles
            and self.head_bundle_is_empty == other.head_bundle_is_empty
            and self.strategy == other.strategy
            and (self._args, self._kwargs) == (other._args, other._kwargs)
        )

    def __hash__(self) -> int:
        bundles = tuple(tuple(sorted(bundle.items())) for bundle in self._bundles)
        return hash((bundles, self.strategy, self.head_bundle_is_empty))

    def __repr__(self) -> str:
        bundles = [{}, *self._bundles] if self.head_bundle_is_empty else self._bundles
        return f"{type(self).__name__}(bundles={bundles!r}, strategy={self.strategy!r})"


def as_request(resources: Any) -> ResourceRequest:
    """Return what a user gave as resources of a trial as a request. Raises TypeError, ValueError."""
    if isinstance(resources, ResourceRequest):
        return resources
    if not isinstance(resources, Mapping):
        raise TypeError(
            f"Resources of a trial are a dict such as {{'cpu': 2, 'gpu': 0.5}} or a PlacementGroupFactory, "
            f"not {resources!r}."
        )
    plain = {name: amount for name, amount in resources.items() if name not in ("custom_resources", "resources")}
    for key in ("custom_resources", "resources"):
        plain.update(resources.get(key) or {})
    return ResourceRequest([plain])
