"""Population based bandits: population based training whose new values are chosen by a model instead of by chance.

Decides the new configuration of a trial that takes over: a Gaussian process over (time, score so far, parameters) of all
trials predicts the gain a step; the point with the highest upper confidence bound is taken. Who takes over from whom is
PBT's. scikit-learn is imported when a PB2 is made.
Invariants: new values lie within their bounds and have the type of the old ones; points chosen in the same round count
as tried, so that one round's trials do not all go to the same place.
Source: Parker-Holder et al., "Provably Efficient Online Hyperparameter Optimization with Population-Based Bandits"
(2020), with the surface and defaults of Ray's PB2. The kernel is ours: a squared exponential over scaled inputs, time
among them, plus noise, where the paper has a time-varying product kernel.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib.util import find_spec
from typing import Any

from raybook.ml.core.metrics import flatten
from raybook.tune.core.pbt import Member
from raybook.tune.core.trial_config import with_flat_values
from raybook.tune.error import TuneError
from raybook.tune.schedulers.pbt import PopulationBasedTraining

# A Gaussian process costs the cube of its points: 200 take 20 ms, and older rounds tell little of the next one.
POINTS_MAX = 200
CANDIDATES = 500
EXPLORATION = 1.0


class PB2(PopulationBasedTraining):
    """PBT with a bandit model. Trials need checkpoints; needs scikit-learn.

    hyperparam_bounds: for each parameter [low, high], nested in dicts as you like; what a trial's configuration lacks is
    drawn between them. The other arguments are those of PopulationBasedTraining.
    """

    _log_prefix = "pb2"

    def __init__(
        self,
        time_attr: str = "time_total_s",
        metric: str | None = None,
        mode: str | None = None,
        perturbation_interval: float = 60.0,
        hyperparam_bounds: Mapping[str, Any] | None = None,
        quantile_fraction: float = 0.25,
        log_config: bool = True,
        require_attrs: bool = True,
        synch: bool = False,
        custom_explore_fn: Callable[[dict[str, Any]], dict[str, Any]] | None = None,
    ) -> None:
        if find_spec("sklearn") is None:
            raise RuntimeError("Please install scikit-learn to use PB2: pip install scikit-learn.")
        if not hyperparam_bounds:
            raise TuneError("PB2 needs hyperparam_bounds={parameter: [low, high], …}.")
        self._bounds = flatten(hyperparam_bounds)
        for name, bounds in self._bounds.items():
            if not isinstance(bounds, (list, tuple)) or len(bounds) != 2:
                raise ValueError(f"hyperparam_bounds[{name!r}] must be a list or tuple of size 2, not {bounds!r}.")
            if bounds[0] > bounds[1]:
                raise ValueError(f"hyperparam_bounds[{name!r}] must be of the form [low, high], not {bounds!r}.")
        super().__init__(
            time_attr=time_attr,
            metric=metric,
            mode=mode,
            perturbation_interval=perturbation_interval,
            hyperparam_mutations=dict(hyperparam_bounds),
            quantile_fraction=quantile_fraction,
            resample_probability=0,
            custom_explore_fn=custom_explore_fn,
            log_config=log_config,
            require_attrs=require_attrs,
            synch=synch,
        )
        # Rows of (trial, time, parameters…, score), in the order of their results.
        self._rows: list[tuple[str, float, tuple[float, ...], float]] = []
        self._chosen_at = -1.0
        self._chosen: list[tuple[float, ...]] = []

    def add_trial(self, trial_id: str, config: Mapping[str, Any]) -> dict[str, Any] | None:
        given = flatten(config)
        missing = {name: self._between(*bounds) for name, bounds in self._bounds.items() if name not in given}
        filled = with_flat_values(config, missing)
        super().add_trial(trial_id, filled)
        return filled if missing else None

    def _note(self, trial_id: str, member: Member, time: float, value: float | None) -> None:
        super()._note(trial_id, member, time, value)
        flat = flatten(member.config)
        self._rows.append(
            (trial_id, float(time), tuple(float(flat[name]) for name in self._bounds), float(value or 0.0))
        )

    def _new_config(self, trial_id: str, source_id: str) -> tuple[dict[str, Any], dict[str, Any]]:
        config = self._members[source_id].config
        point = self._best_point(source_id)
        if point is not None:
            old = flatten(config)
            values = {name: type(old[name])(value) for name, value in zip(self._bounds, point, strict=True)}
            config = with_flat_values(config, values)
            source = self._members[source_id]
            # The trial goes on from the source's score, with other values: so its next gain is measured from there.
            self._rows.append((trial_id, source.last_seen, point, float(source.score or 0.0)))
        if self._custom_explore_fn is not None:
            config = self._custom_explore_fn(dict(config))
            if config is None:
                raise ValueError("custom_explore_fn returned None; it must return the configuration.")
        return dict(config), {}

    def _best_point(self, source_id: str) -> tuple[float, ...] | None:
        """Return the values to go on with, None while there is nothing to learn from."""
        import numpy as np

        inputs, gains = self._gains()
        last = next((row for row in reversed(self._rows) if row[0] == source_id), None)
        if len(gains) < 2 or last is None:
            return None
        newest = max(row[1] for row in self._rows)
        if newest > self._chosen_at:
            self._chosen_at, self._chosen = newest, []
        low = np.array([float(bounds[0]) for bounds in self._bounds.values()])
        high = np.array([float(bounds[1]) for bounds in self._bounds.values()])
        rng = np.random.RandomState(self._rng.randrange(0, 2**31))  # type: ignore[attr-defined]
        candidates = low + rng.random_sample((CANDIDATES, len(low))) * (high - low)
        context = np.tile([last[1], last[3]], (CANDIDATES, 1))
        best = _upper_bound(inputs, gains, np.hstack([context, candidates]), low, high, self._chosen).argmax()
        point = tuple(float(value) for value in candidates[best])
        self._chosen.append(point)
        return point

    def _gains(self) -> tuple[list[tuple[float, ...]], list[float]]:
        """Return inputs (time, score before, parameters…) and the gain a unit of time of each step."""
        before: dict[str, tuple[float, tuple[float, ...], float]] = {}
        inputs, gains = [], []
        for trial_id, time, values, value in self._rows:
            if trial_id in before:
                earlier, same, start = before[trial_id]
                if time > earlier and same == values:
                    inputs.append((time, start, *values))
                    gains.append((value - start) / (time - earlier))
            before[trial_id] = (time, values, value)
        return inputs[-POINTS_MAX:], gains[-POINTS_MAX:]

    def _between(self, low: Any, high: Any) -> Any:
        value = low + self._rng.random() * (high - low)
        return round(value) if isinstance(low, int) and isinstance(high, int) else value


def _upper_bound(inputs: Any, gains: Any, candidates: Any, low: Any, high: Any, tried: Any) -> Any:
    """Return the upper confidence bound of the gain at each candidate. tried: points chosen, their gain not known yet."""
    import numpy as np
    from sklearn.gaussian_process import GaussianProcessRegressor
    from sklearn.gaussian_process.kernels import RBF, WhiteKernel

    known, y = np.array(inputs, dtype=float), np.array(gains, dtype=float)
    span = np.where(high > low, high - low, 1.0)

    def scaled(points: Any) -> Any:
        shown = np.array(points, dtype=float)
        shown[:, :2] = (shown[:, :2] - known[:, :2].mean(0)) / (known[:, :2].std(0) + 1e-8)
        shown[:, 2:] = (shown[:, 2:] - low) / span
        return shown

    target = (y - y.mean()) / (y.std() + 1e-8)
    # Fixed length scales: a handful of points does not tell better ones, and fitting them costs more than a trial's step.
    kernel = RBF(length_scale=[1.0, 1.0] + [0.3] * len(low)) + WhiteKernel(0.01)
    model = GaussianProcessRegressor(kernel=kernel, optimizer=None).fit(scaled(known), target)
    mean, _ = model.predict(scaled(candidates), return_std=True)
    if tried:
        # What was chosen a moment ago is certain, whatever it brings (batch selection by hallucinated variance).
        hoped = np.hstack([np.tile(candidates[0, :2], (len(tried), 1)), np.array(tried)])
        known_scaled = np.vstack([scaled(known), scaled(hoped)])
        model = GaussianProcessRegressor(kernel=kernel, optimizer=None)
        model.fit(known_scaled, np.concatenate([target, np.zeros(len(tried))]))
    _, deviation = model.predict(scaled(candidates), return_std=True)
    return mean + EXPLORATION * deviation
