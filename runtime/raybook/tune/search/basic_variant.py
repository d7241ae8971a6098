"""Basic variant generator: grid and random search.

Decides the order of trials: first the given points, then num_samples times the grid, each point with a draw of its own.
Invariant: with a random_state the sequence of configurations repeats.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from raybook.tune.core.searcher import FINISHED, Searcher
from raybook.tune.core.space import as_rng
from raybook.tune.core.variants import draw, grid_points, grid_size, variants


class BasicVariantGenerator(Searcher):
    """Grid × num_samples, domains drawn at random. The default search.

    points_to_evaluate: configurations (or parts of one) to try first, each in place of one sample.
    constant_grid_search: draw once a sample instead of once a grid point. random_state: a seed, or a numpy random state
    to draw the seed from; without one the seed comes from Python's global generator, so `random.seed` fixes it too.
    max_concurrent: trials out at once, 0 for no limit.
    """

    counts_trials = True

    def __init__(
        self,
        points_to_evaluate: Sequence[Mapping[str, Any]] | None = None,
        max_concurrent: int = 0,
        constant_grid_search: bool = False,
        random_state: Any = None,
    ) -> None:
        super().__init__()
        if max_concurrent < 0:
            raise ValueError(f"max_concurrent must be 0 (no limit) or more, not {max_concurrent!r}.")
        self._points = [dict(point) for point in points_to_evaluate or ()]
        self._max_concurrent = max_concurrent
        self._constant_grid = constant_grid_search
        # The generator of variants cannot be pickled: seed and number of draws give it back.
        self._seed = random.getrandbits(64) if random_state is None else as_rng(random_state).getrandbits(64)
        self._rng = random.Random(self._seed)
        self._space: Mapping[str, Any] = {}
        self._num_samples = 0
        self._drawn = 0
        self._variants: Iterator[dict[str, Any]] = iter(())
        self._live: set[str] = set()
        self.total_samples: int | None = 0

    def set_search_properties(
        self, metric: str | None, mode: str | None, config: Mapping[str, Any], **spec: Any
    ) -> bool:
        self.metric, self.mode = metric, mode
        num_samples = spec.get("num_samples", 1)
        self._space, self._num_samples = config, num_samples
        self._rng = random.Random(self._seed)
        self._variants = self._generate(config, num_samples)
        if num_samples < 0:
            self.total_samples = None
        else:
            grids = grid_size(config)
            self.total_samples = len(self._points[:num_samples]) + max(0, num_samples - len(self._points)) * grids
        return True

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:
        if self._max_concurrent and len(self._live) >= self._max_concurrent:
            return None
        config = next(self._variants, None)
        if config is None:
            return FINISHED
        self._live.add(trial_id)
        self._drawn += 1
        return config

    def on_trial_complete(self, trial_id: str, result: Mapping[str, Any] | None = None, error: bool = False) -> None:
        self._live.discard(trial_id)

    def __getstate__(self) -> dict[str, Any]:
        return {key: value for key, value in self.__dict__.items() if key not in ("_variants", "_rng")}

    def __setstate__(self, state: Mapping[str, Any]) -> None:
        self.__dict__.update(state)
        self._rng = random.Random(self._seed)
        self._variants = itertools.islice(self._generate(self._space, self._num_samples), self._drawn, None)

    def get_state(self) -> dict[str, Any]:
        return self.__getstate__()

    def set_state(self, state: Mapping[str, Any]) -> None:
        self.__setstate__(state)

    def _generate(self, space: Mapping[str, Any], num_samples: int) -> Iterator[dict[str, Any]]:
        points = self._points if num_samples < 0 else self._points[:num_samples]
        for point in points:
            # What a point leaves open is drawn; of a grid it leaves open, the first value is taken.
            yield draw(next(grid_points({**space, **point})), self._rng)
        left = num_samples if num_samples < 0 else num_samples - len(points)
        yield from variants(space, left, self._rng, self._constant_grid)
