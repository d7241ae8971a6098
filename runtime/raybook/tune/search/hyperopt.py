"""HyperOpt search: hands hyperopt's tree of Parzen estimators a raybook search space and tells it what came of it.

Converts domains to hyperopt's stochastic expressions and drives its `Trials` by hand; the search itself is hyperopt's,
imported when a searcher is made.
Invariants: one suggestion a call, with a seed drawn from the searcher's own generator, so that equal seeds repeat; hidden
duplicates of nested names cannot arise, because parameters are named by their path.
"""

from __future__ import annotations

import math
import random
from collections.abc import Mapping, Sequence
from typing import Any

from raybook.ml.core.metrics import has_metric, is_number, lookup
from raybook.tune.core.searcher import Searcher
from raybook.tune.core.space import Categorical, Domain, Float, Integer, Normal, is_grid
from raybook.tune.core.variants import Path, leaves, with_leaves


class HyperOptSearch(Searcher):
    """Search by hyperopt (TPE). Needs `pip install hyperopt`.

    space: a dict of domains or of hyperopt expressions; Tuner's param_space if None. points_to_evaluate: configurations
    to try first. n_initial_points: random ones before the model is used. random_state_seed: makes it repeat. gamma:
    share of trials that count as good.
    """

    def __init__(
        self,
        space: Mapping[str, Any] | None = None,
        metric: str | None = None,
        mode: str | None = None,
        points_to_evaluate: Sequence[Mapping[str, Any]] | None = None,
        n_initial_points: int = 20,
        random_state_seed: int | None = None,
        gamma: float = 0.25,
    ) -> None:
        try:
            import hyperopt  # noqa: F401
        except ImportError as error:
            raise ImportError("HyperOptSearch needs the package hyperopt: pip install hyperopt.") from error
        super().__init__(metric, mode)
        self._points = [dict(point) for point in points_to_evaluate or ()]
        self._n_initial_points = n_initial_points
        self._gamma = gamma
        self._rng = random.Random(random_state_seed)
        self._space: Mapping[str, Any] | None = None
        self._live: dict[str, Any] = {}
        if space:
            self._set_up(space)

    def set_search_properties(
        self, metric: str | None, mode: str | None, config: Mapping[str, Any], **spec: Any
    ) -> bool:
        if self._space is not None and config:
            return False
        self.metric, self.mode = self.metric or metric, self.mode or mode
        if self._space is None:
            self._set_up(config)
        return True

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:
        import hyperopt

        if self._space is None:
            raise RuntimeError("HyperOptSearch has no search space: pass `space`, or param_space to the Tuner.")
        if self.metric is None or self.mode is None:
            raise RuntimeError("HyperOptSearch needs a metric and a mode: give them here or in TuneConfig.")
        if self._points:
            return self._enter(trial_id, self._encode(self._points.pop(0)))
        (new_id,) = self._trials.new_trial_ids(1)
        self._trials.refresh()
        seed = self._rng.randrange(2**31 - 1)
        options = {"n_startup_jobs": self._n_initial_points, "gamma": self._gamma}
        (document,) = hyperopt.tpe.suggest([new_id], self._domain, self._trials, seed, **options)
        self._trials.insert_trial_docs([document])
        self._trials.refresh()
        self._live[trial_id] = document
        chosen = {name: values[0] for name, values in document["misc"]["vals"].items() if values}
        return self._decode(chosen)

    def on_trial_complete(self, trial_id: str, result: Mapping[str, Any] | None = None, error: bool = False) -> None:
        import hyperopt

        document = self._live.pop(trial_id, None)
        if document is None:
            return
        value: Any = lookup(result, self.metric) if result and has_metric(result, self.metric) else None
        # The document that Trials keeps, not the copy that suggest returned.
        document = next(entry for entry in self._trials._dynamic_trials if entry["tid"] == document["tid"])
        if error or not is_number(value) or not math.isfinite(value):
            document["state"] = hyperopt.base.JOB_STATE_ERROR
            document["misc"]["error"] = ("trial failed", "no finite value")
        else:
            loss = -value if self.mode == "max" else value
            document["state"] = hyperopt.base.JOB_STATE_DONE
            document["result"] = {"loss": loss, "status": hyperopt.STATUS_OK}
        self._trials.refresh()

    def _set_up(self, space: Mapping[str, Any]) -> None:
        import hyperopt

        self._space = space
        self._open: dict[str, tuple[Path, Any]] = {}
        expressions = {}
        for path, value in leaves(space):
            name = "/".join(str(part) for part in path)
            expression = _expression(name, value)
            if expression is not None:
                self._open[name] = (path, value)
                expressions[name] = expression
        self._domain = hyperopt.Domain(lambda config: 0.0, expressions)
        self._trials = hyperopt.Trials()

    def _enter(self, trial_id: str, values: dict[str, Any]) -> dict[str, Any]:
        import hyperopt

        (new_id,) = self._trials.new_trial_ids(1)
        misc = {
            "tid": new_id,
            "cmd": self._domain.cmd,
            "workdir": self._domain.workdir,
            "idxs": {name: [new_id] for name in values},
            "vals": {name: [value] for name, value in values.items()},
        }
        result = {"status": hyperopt.STATUS_NEW}
        (document,) = self._trials.new_trial_docs([new_id], [None], [result], [misc])
        self._trials.insert_trial_docs([document])
        self._trials.refresh()
        self._live[trial_id] = document
        return self._decode(values)

    def _encode(self, point: Mapping[str, Any]) -> dict[str, Any]:
        flat = {"/".join(str(part) for part in path): value for path, value in leaves(point)}
        encoded = {}
        for name, (_, domain) in self._open.items():
            value = flat[name] if name in flat else domain.sample(random_state=self._rng)
            is_choice = isinstance(domain, Categorical)
            encoded[name] = domain.categories.index(value) if is_choice else value
        return encoded

    def _decode(self, chosen: Mapping[str, Any]) -> dict[str, Any]:
        drawn = {}
        for name, (path, domain) in self._open.items():
            value = chosen[name]
            if isinstance(domain, Categorical):
                value = domain.categories[int(value)]
            elif isinstance(domain, Integer):
                value = domain.quantize(
                    min(max(int(value), domain.lower), domain.upper if domain.quantum else domain.upper - 1)
                )
            elif isinstance(domain, Float):
                value = min(max(float(value), domain.lower), domain.upper)
            elif hasattr(value, "item"):
                value = value.item()
            drawn[path] = value
        assert self._space is not None
        return with_leaves(self._space, drawn)


def _expression(name: str, value: Any) -> Any:
    """Return hyperopt's expression for a leaf, None for a constant. Raises ValueError for what hyperopt has none for."""
    from hyperopt import hp
    from hyperopt.pyll.base import Apply

    if isinstance(value, Apply):
        return value
    if is_grid(value):
        raise ValueError(f"Parameter {name!r} is a grid_search, which HyperOptSearch cannot sample. Use tune.choice.")
    if not isinstance(value, Domain):
        return None
    if isinstance(value, Categorical):
        return hp.choice(name, list(range(len(value.categories))))
    if isinstance(value, Normal):
        return (
            hp.qnormal(name, value.mean, value.sd, value.quantum)
            if value.quantum
            else hp.normal(name, value.mean, value.sd)
        )
    if isinstance(value, (Float, Integer)):
        upper = value.upper - 1 if isinstance(value, Integer) and not value.quantum else value.upper
        step = value.quantum or (1 if isinstance(value, Integer) else None)
        if value.log:
            low, high = math.log(value.lower), math.log(upper)
            return hp.qloguniform(name, low, high, step) if step else hp.loguniform(name, low, high)
        return hp.quniform(name, value.lower, upper, step) if step else hp.uniform(name, value.lower, upper)
    raise ValueError(f"Parameter {name!r} is {value!r}, for which hyperopt has no expression.")
