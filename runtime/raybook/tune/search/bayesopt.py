"""BayesOpt search: Gaussian processes by the package bayesian-optimization, over continuous ranges.

Converts ranges to bounds and drives the package's suggest-and-register interface; the search itself is the package's,
imported when a searcher is made.
Invariants: only float ranges are searched, constants are handed through; equal seeds give equal suggestions.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

from raybook.ml.core.metrics import flatten, has_metric, is_number, lookup
from raybook.tune.core.searcher import FINISHED, Searcher
from raybook.tune.core.space import Domain, Float, is_grid
from raybook.tune.core.trial_config import with_flat_values
from raybook.tune.core.variants import leaves


class BayesOptSearch(Searcher):
    """Search by Gaussian processes over float ranges. Needs `pip install bayesian-optimization`.

    space: {name: (low, high)}, or float domains; Tuner's param_space if None. points_to_evaluate: configurations to try
    first. random_search_steps: random ones before the model is used. patience, skip_duplicate: the search is over after
    so many suggestions in a row that were made before. analysis: an ExperimentAnalysis whose trials are told first.
    """

    def __init__(
        self,
        space: Mapping[str, Any] | None = None,
        metric: str | None = None,
        mode: str | None = None,
        points_to_evaluate: Sequence[Mapping[str, Any]] | None = None,
        utility_kwargs: Mapping[str, Any] | None = None,
        random_state: int = 42,
        random_search_steps: int = 10,
        verbose: int = 0,
        patience: int = 5,
        skip_duplicate: bool = True,
        analysis: Any = None,
    ) -> None:
        try:
            import bayes_opt  # noqa: F401
        except ImportError as error:
            raise ImportError(
                "BayesOptSearch needs the package bayesian-optimization: pip install bayesian-optimization."
            ) from error
        if patience < 1:
            raise ValueError(f"patience must be 1 or more, not {patience!r}.")
        super().__init__(metric, mode)
        self._points = [flatten(point) for point in points_to_evaluate or ()]
        self._utility = dict(utility_kwargs or {})
        self._random_state = random_state
        self._random_search_steps = random_search_steps
        self._patience = patience
        self._skip_duplicate = skip_duplicate
        self._analysis = analysis
        self._constants: Mapping[str, Any] = {}
        self._bounds: dict[str, tuple[float, float]] | None = None
        self._live: dict[str, dict[str, float]] = {}
        self._seen: set[tuple[float, ...]] = set()
        self._repeats = 0
        if space:
            self._set_up(space)

    def set_search_properties(
        self, metric: str | None, mode: str | None, config: Mapping[str, Any], **spec: Any
    ) -> bool:
        if self._bounds is not None and config:
            return False
        self.metric, self.mode = self.metric or metric, self.mode or mode
        if self._bounds is None:
            self._set_up(config)
        return True

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:
        if self._bounds is None:
            raise RuntimeError("BayesOptSearch has no search space: pass `space`, or param_space to the Tuner.")
        if self.metric is None or self.mode is None:
            raise RuntimeError("BayesOptSearch needs a metric and a mode: give them here or in TuneConfig.")
        point = self._next_point()
        if point is None:
            return None
        key = tuple(round(value, 5) for value in point.values())
        if self._skip_duplicate and key in self._seen:
            self._repeats += 1
            return FINISHED if self._repeats >= self._patience else None
        self._repeats = 0
        self._seen.add(key)
        self._live[trial_id] = point
        return with_flat_values(self._constants, point)

    def on_trial_complete(self, trial_id: str, result: Mapping[str, Any] | None = None, error: bool = False) -> None:
        point = self._live.pop(trial_id, None)
        if point is None or error or not result or not has_metric(result, self.metric):
            return
        value = lookup(result, self.metric)
        if is_number(value) and math.isfinite(value):
            self._register(point, value)

    def add_evaluated_point(
        self,
        parameters: Mapping[str, Any],
        value: float,
        error: bool = False,
        pruned: bool = False,
        intermediate_values: Sequence[float] | None = None,
    ) -> None:
        assert self._bounds is not None
        flat = flatten(parameters)
        if not error and not pruned:
            self._register({name: float(flat[name]) for name in self._bounds}, value)

    def _next_point(self) -> dict[str, float] | None:
        assert self._bounds is not None
        if self._points:
            given = self._points.pop(0)
            return {name: float(given.get(name, sum(bounds) / 2)) for name, bounds in self._bounds.items()}
        if self._random_search_steps > 0:
            self._random_search_steps -= 1
            return {name: self._rng.uniform(*bounds) for name, bounds in self._bounds.items()}
        if not self._optimizer.res and self._live:
            return None  # Nothing is known yet; asked again after a result.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # The Gaussian process warns of every flat likelihood.
            return {name: float(value) for name, value in self._optimizer.suggest().items()}

    def _register(self, point: dict[str, float], value: float) -> None:
        signed = value if self.mode == "max" else -value
        self._optimizer.register(params=point, target=signed)

    def _set_up(self, space: Mapping[str, Any]) -> None:
        import bayes_opt
        import numpy as np

        self._bounds, constants = {}, {}
        pairs = all(isinstance(value, tuple) and len(value) == 2 for value in space.values())
        for path, value in [((name,), bounds) for name, bounds in space.items()] if pairs else leaves(space):
            name = "/".join(str(part) for part in path)
            if pairs:
                self._bounds[name] = (float(value[0]), float(value[1]))
            elif isinstance(value, Float):
                if value.log or value.quantum:
                    warnings.warn(f"BayesOptSearch samples {name!r} evenly, without log or steps.", stacklevel=4)
                self._bounds[name] = (value.lower, value.upper)
            elif isinstance(value, Domain) or is_grid(value):
                raise ValueError(f"BayesOptSearch searches float ranges only, and {name!r} is {value!r}.")
            else:
                constants[name] = value
        self._constants = with_flat_values({}, constants)
        options: dict[str, Any] = {"f": None, "pbounds": self._bounds, "random_state": self._random_state, "verbose": 0}
        self._optimizer = bayes_opt.BayesianOptimization(**options, allow_duplicate_points=True)
        self._rng = np.random.RandomState(self._random_state)
        if self._analysis is not None:
            self.add_evaluated_trials(self._analysis, self.metric)
