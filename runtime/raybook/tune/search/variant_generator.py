"""Grids and variants under the module path that Ray's users import them from."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from typing import Any

from raybook.tune.core.space import grid_search
from raybook.tune.core.variants import variants, varying_leaves


def generate_variants(
    unresolved_spec: Mapping[str, Any], constant_grid_search: bool = False, random_state: Any = None
) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    """Yield (the open parameters, the whole configuration) for each grid point, domains drawn."""
    rng = random.Random(random_state) if random_state is None or isinstance(random_state, int) else random_state
    for config in variants(unresolved_spec, 1, rng, constant_grid_search):
        yield varying_leaves(unresolved_spec, config), config


__all__ = ["generate_variants", "grid_search"]
