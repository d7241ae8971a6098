"""Mutation: how population based training changes a configuration, and the log that tells it.

Decides new values from old ones and chance. Knows nothing of trials' scores.
Source: Jaderberg et al., "Population Based Training of Neural Networks" (2017), with the rules and defaults of Ray's
PopulationBasedTraining: resample with some probability, otherwise multiply by a factor or move to a neighbour in the list.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from raybook.tune.core.orders import plain_config
from raybook.tune.core.space import Domain, Function, Rng


class Chooser(Rng):
    """What mutating needs beyond drawing; `random.Random` and the module `random` have it."""

    def choice(self, values: Sequence[Any]) -> Any: ...


def check_mutations(mutations: Mapping[str, Any]) -> None:
    """Raise TypeError or ValueError for a value of hyperparam_mutations that is no list, dict, domain or function."""
    for name, value in mutations.items():
        if isinstance(value, Function):
            raise ValueError(
                f"hyperparam_mutations[{name!r}] is a tune.sample_from, which has no configuration to read there. Use "
                "tune.uniform, tune.choice and the like, a list, or a function without arguments."
            )
        if not isinstance(value, (dict, list, tuple, Domain)) and not callable(value):
            raise TypeError(
                f"hyperparam_mutations[{name!r}] must be a list, tuple, dict, search space or function, not {value!r}."
            )


def draw_value(distribution: Any, rng: Chooser) -> Any:
    """Draw one value from what hyperparam_mutations may hold."""
    if isinstance(distribution, Domain):
        return distribution.sample(random_state=rng)
    if isinstance(distribution, Mapping):
        return {name: draw_value(inner, rng) for name, inner in distribution.items()}
    if isinstance(distribution, (list, tuple)):
        return rng.choice(distribution)
    return distribution()


def explore(
    config: Mapping[str, Any],
    mutations: Mapping[str, Any],
    resample_probability: float,
    factors: Sequence[float],
    custom: Callable[[dict[str, Any]], dict[str, Any]] | None,
    rng: Chooser,
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return (the mutated configuration, {parameter: what was done to it}). The input is left alone."""
    changed = plain_config(config)
    done: dict[str, Any] = {}
    for name, distribution in mutations.items():
        if isinstance(distribution, Mapping):
            changed[name], done[name] = explore(config[name], distribution, resample_probability, factors, None, rng)
        elif isinstance(distribution, (list, tuple)):
            changed[name], done[name] = _move(config[name], distribution, resample_probability, rng)
        else:
            changed[name], done[name] = _scale(config[name], distribution, resample_probability, factors, rng)
    if custom is not None:
        changed = custom(changed)
        if changed is None:
            raise ValueError("custom_explore_fn returned None; it must return the configuration.")
    return changed, done


def _move(old: Any, values: Sequence[Any], resample_probability: float, rng: Chooser) -> tuple[Any, str]:
    if rng.random() < resample_probability or old not in values:
        return rng.choice(values), "resample"
    shift = rng.choice([-1, 1])
    before = list(values).index(old)
    after = min(max(before + shift, 0), len(values) - 1)
    return values[after], f"shift {'left' if shift == -1 else 'right'}{' (noop)' if before == after else ''}"


def _scale(
    old: Any, distribution: Any, resample_probability: float, factors: Sequence[float], rng: Chooser
) -> tuple[Any, str]:
    if rng.random() < resample_probability or isinstance(old, (str, type(None))):
        new, note = draw_value(distribution, rng), "resample"
    else:
        factor = rng.choice(factors)
        new, note = old * factor, f"* {factor}"
    if isinstance(old, bool):
        return bool(new), note
    return (round(new), note) if isinstance(old, int) and not isinstance(new, str) else (new, note)


def mutated_part(config: Mapping[str, Any], mutations: Mapping[str, Any]) -> dict[str, Any]:
    """Return the part of config that mutations name."""
    return {
        name: mutated_part(config[name], inner) if isinstance(inner, Mapping) and inner else config[name]
        for name, inner in mutations.items()
        if name in config
    }
