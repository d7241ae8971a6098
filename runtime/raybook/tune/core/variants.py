"""Variants: turns a search space into concrete configurations.

Decides the order of grid points, draws the sampled leaves, and resolves `sample_from` values after what they read.
Works on nested dicts and lists. Knows nothing of trials.
Invariants: the input space is never changed and no container is shared between two variants; the first grid varies
fastest; equal rng state gives equal variants.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from raybook.tune.core.space import GRID_KEY, Domain, Function, Rng, call_with, is_grid

Path = tuple[Any, ...]


class _NotYetDrawn(Exception):
    """A sample_from function read a value that is itself still to be computed."""


class ConfigView(dict):
    """The configuration as a sample_from function sees it: by key, by attribute, and under `.config` as well."""

    def __getitem__(self, key: Any) -> Any:
        if key == "config" and key not in self:
            return self
        value = super().__getitem__(key)
        if isinstance(value, Function):
            raise _NotYetDrawn(key)
        return ConfigView(value) if type(value) is dict else value

    def __getattr__(self, name: str) -> Any:
        try:
            return self[name]
        except KeyError:
            raise AttributeError(f"The configuration has no parameter {name!r}.") from None

    def get(self, key: Any, default: Any = None) -> Any:
        return self[key] if key in self else default


def leaves(space: Any, path: Path = ()) -> Iterator[tuple[Path, Any]]:
    """Yield (path, value) of every leaf of nested dicts and lists; a grid counts as a leaf."""
    if isinstance(space, Mapping) and not is_grid(space):
        for key, value in space.items():
            yield from leaves(value, (*path, key))
    elif isinstance(space, (list, tuple)):
        for index, value in enumerate(space):
            yield from leaves(value, (*path, index))
    else:
        yield path, space


def with_leaves(space: Any, replacements: Mapping[Path, Any], path: Path = ()) -> Any:
    """Return a copy of space with the leaves at the given paths replaced."""
    if path in replacements:
        return replacements[path]
    if isinstance(space, Mapping):
        return {key: with_leaves(value, replacements, (*path, key)) for key, value in space.items()}
    if isinstance(space, (list, tuple)):
        copied = [with_leaves(value, replacements, (*path, index)) for index, value in enumerate(space)]
        return copied if isinstance(space, list) else tuple(copied)
    return space


def grid_size(space: Any) -> int:
    """Return how many grid points space has. A grid inside a grid's value counts for its own points."""
    return sum(1 for _ in grid_points(space))


def grid_points(space: Any) -> Iterator[Any]:
    """Yield space once for each point of the product of its grids, grids replaced, domains left as they are."""
    grids = [(path, value[GRID_KEY]) for path, value in leaves(space) if is_grid(value)]
    if not grids:
        yield with_leaves(space, {})
        return
    digits = [0] * len(grids)
    while True:
        point = {path: values[digit] for (path, values), digit in zip(grids, digits, strict=True)}
        yield from grid_points(with_leaves(space, point))
        for position, (_, values) in enumerate(grids):
            digits[position] += 1
            if digits[position] < len(values):
                break
            digits[position] = 0
        else:
            return


def draw(space: Any, rng: Rng) -> Any:
    """Return space with every domain replaced by one value. Grids are left. Raises ValueError for a circular read."""
    config = space
    # A category may hold a domain itself (conditional spaces), so draw until none is left.
    while drawn := {
        path: value.draw(rng)
        for path, value in leaves(config)
        if isinstance(value, Domain) and not isinstance(value, Function)
    }:
        config = with_leaves(config, drawn)
    return _compute_functions(with_leaves(config, {}), rng)


def variants(space: Mapping[str, Any], num_samples: int, rng: Rng, constant_grid: bool = False) -> Iterator[Any]:
    """Yield num_samples times the grid, each point with its own draw; -1 goes on for ever.

    constant_grid: one draw for all grid points of a sample, so that they differ in the grid alone.
    """
    sample = 0
    while num_samples < 0 or sample < num_samples:
        sample += 1
        if constant_grid:
            yield from grid_points(draw(space, rng))
        else:
            for point in grid_points(space):
                yield draw(point, rng)


def varying_leaves(space: Any, config: Any) -> dict[str, Any]:
    """Return {'path': value} of config's leaves that space leaves open: what tells one trial from another."""
    open_paths = [path for path, value in leaves(space) if isinstance(value, Domain) or is_grid(value)]
    found = {}
    for path in open_paths:
        value = config
        for part in path:
            value = value[part]
        found["/".join(str(part) for part in path)] = value
    return found


def _compute_functions(config: Any, rng: Rng) -> Any:
    while pending := [(path, value) for path, value in leaves(config) if isinstance(value, Function)]:
        computed = {}
        for path, function in pending:
            try:
                computed[path] = _call(function, config)
            except _NotYetDrawn:
                continue
        if not computed:
            names = ", ".join("/".join(str(part) for part in path) for path, _ in pending)
            raise ValueError(f"The sample_from() values of {names} read each other in a circle; none can be drawn.")
        config = with_leaves(config, computed)
        if any(isinstance(value, Domain) and not isinstance(value, Function) for _, value in leaves(config)):
            return draw(config, rng)
    return config


def _call(function: Function, config: Any) -> Any:
    return call_with(function.func, ConfigView(config))
