"""Placement group factory: the resources of a trial that starts workers of its own.

The record is pure (`core/resource_request`); this adds only how the group is made.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from raybook import api
from raybook.tune.core.resource_request import ResourceRequest, as_request


class PlacementGroupFactory(ResourceRequest):
    """Resources of one trial as bundles: the first for its own process, the others for the workers it starts.

    bundles: for instance [{"CPU": 1}, {"CPU": 2}, {"CPU": 2}]; an empty first one if the trial itself needs nothing.
    strategy: PACK, SPREAD, STRICT_PACK or STRICT_SPREAD. Raises ValueError for no or only empty bundles.
    """

    def to_placement_group(self) -> Any:
        """Ask the cluster for the group; returns at once with its handle."""
        return api.placement_group(self.bundles, self.strategy, *self._args, **self._kwargs)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.to_placement_group()


def resource_dict_to_pg_factory(spec: Mapping[str, float] | None = None) -> PlacementGroupFactory:
    """Return {"cpu": …, "gpu": …, …} as a factory of one bundle; one CPU for None."""
    return PlacementGroupFactory([as_request(spec or {"cpu": 1}).required_resources])
