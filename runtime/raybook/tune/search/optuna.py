"""Optuna search: hands Optuna's samplers a raybook search space and tells them what came of it.

Converts domains to distributions and drives Optuna's ask-and-tell interface; the search itself is Optuna's. The import
of optuna happens when a searcher is made.
Invariants: trials are asked and told one by one, so a serial sweep with a seeded sampler suggests exactly what Optuna
alone would; quantities that Optuna cannot express (a log range in steps) are sampled by it and rounded here.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from raybook.ml.core.metrics import has_metric, is_number, lookup
from raybook.tune.core.searcher import Searcher
from raybook.tune.core.space import Categorical, Domain, Float, Integer, is_grid
from raybook.tune.core.trial_config import with_flat_values
from raybook.tune.core.variants import Path, leaves, with_leaves

if TYPE_CHECKING:
    import optuna

_PLAIN = (bool, int, float, str, type(None))


class OptunaSearch(Searcher):
    """Search by Optuna (TPE unless a sampler is given).

    space: a dict of domains, of Optuna distributions, or a function trial -> constants that calls `trial.suggest_...`;
    Tuner's param_space if None. metric, mode: one each, or lists of equal length for several goals.
    points_to_evaluate: parameters (by flat name) to try first; evaluated_rewards: their known values, if any, which are
    then told instead of tried. seed: for the default sampler. study_name, storage: Optuna's own.
    """

    def __init__(
        self,
        space: Mapping[str, Any] | Callable[[optuna.Trial], Mapping[str, Any] | None] | None = None,
        metric: str | Sequence[str] | None = None,
        mode: str | Sequence[str] | None = None,
        points_to_evaluate: Sequence[Mapping[str, Any]] | None = None,
        sampler: optuna.samplers.BaseSampler | None = None,
        study_name: str | None = None,
        storage: optuna.storages.BaseStorage | None = None,
        seed: int | None = None,
        evaluated_rewards: Sequence[float] | None = None,
    ) -> None:
        import optuna

        super().__init__(metric, mode)
        if sampler is not None and not isinstance(sampler, optuna.samplers.BaseSampler):
            raise TypeError(f"sampler must be one of optuna.samplers, not {sampler!r}.")
        if sampler is not None and seed is not None:
            warnings.warn("`seed` is for the default sampler; the one you gave keeps its own.", stacklevel=2)
        if evaluated_rewards is not None and len(evaluated_rewards) != len(points_to_evaluate or ()):
            raise ValueError("evaluated_rewards must have one value for each of points_to_evaluate.")
        self._sampler = sampler or optuna.samplers.TPESampler(seed=seed)
        self._points = [dict(point) for point in points_to_evaluate or ()]
        self._rewards = evaluated_rewards
        self._study_name = study_name
        self._storage = storage
        self._space: SpaceInOptuna | None = None
        self._study: optuna.Study | None = None
        self._trials: dict[str, optuna.Trial] = {}
        if space is not None:
            self._space = SpaceInOptuna(space)
            if metric is not None:
                self._open_study()

    @property
    def study(self) -> optuna.Study:
        """The Optuna study, for its plots and its own questions. Raises RuntimeError before it is set up."""
        if self._study is None:
            raise RuntimeError("OptunaSearch has no study yet: it needs a space and a metric, here or in the Tuner.")
        return self._study

    def set_search_properties(
        self, metric: str | None, mode: str | None, config: Mapping[str, Any], **spec: Any
    ) -> bool:
        if self._space is not None and config:
            return False
        if self.metric and metric and self.metric != metric:
            return False
        if self._space is None:
            self._space = SpaceInOptuna(config)
        self.metric = self.metric or metric
        self.mode = self.mode or mode
        if self.metric is None and isinstance(self.mode, str):
            self.metric = "_metric"  # What a bare number that a function returns is called.
        if self.metric is None:
            raise ValueError("OptunaSearch needs a metric: give it here or in TuneConfig(metric=...).")
        if self._study is None:
            self._open_study()
        return True

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:
        space, study = self._space, self.study
        assert space is not None
        trial = study.ask(fixed_distributions=space.distributions)
        self._trials[trial_id] = trial
        return space.config_of(trial)

    def on_trial_result(self, trial_id: str, result: Mapping[str, Any]) -> None:
        trial = self._trials.get(trial_id)
        if trial is None or not isinstance(self.metric, str) or not has_metric(result, self.metric):
            return
        step, value = result.get("training_iteration", 0), lookup(result, self.metric)
        if is_number(value):
            trial.report(value, int(step))

    def on_trial_complete(self, trial_id: str, result: Mapping[str, Any] | None = None, error: bool = False) -> None:
        from optuna.trial import TrialState

        trial = self._trials.pop(trial_id, None)
        if trial is None:
            return
        names = [self.metric] if isinstance(self.metric, str) else list(self.metric or ())
        values = [lookup(result, name) if result is not None and has_metric(result, name) else None for name in names]
        if error or not all(is_number(value) and math.isfinite(value) for value in values):  # type: ignore[arg-type]
            self.study.tell(trial, state=TrialState.FAIL)
        else:
            self.study.tell(trial, values)  # type: ignore[arg-type]

    def add_evaluated_point(
        self,
        parameters: Mapping[str, Any],
        value: float,
        error: bool = False,
        pruned: bool = False,
        intermediate_values: Sequence[float] | None = None,
    ) -> None:
        """Tell the study of a configuration that was evaluated elsewhere. parameters: nested or flat."""
        import optuna
        from optuna.trial import TrialState

        study, space = self.study, self._space
        assert space is not None
        if space.is_defined_by_run:
            raise TypeError(
                "Points evaluated elsewhere need a space of known distributions; this one is a define-by-run function."
            )
        state = TrialState.FAIL if error else TrialState.PRUNED if pruned else TrialState.COMPLETE
        study.add_trial(
            optuna.trial.create_trial(
                state=state,
                value=None if error else value,
                params=space.encode(parameters),
                distributions=dict(space.distributions),
                intermediate_values=dict(enumerate(intermediate_values)) if intermediate_values else None,
            )
        )

    def _open_study(self) -> None:
        import optuna

        modes = [self.mode or "max"] if isinstance(self.metric, str) else list(self.mode or ())
        if not isinstance(self.metric, str) and len(modes) != len(self.metric):  # type: ignore[arg-type]
            raise ValueError(f"OptunaSearch needs one mode for each metric, and got {modes} for {self.metric}.")
        verbosity = optuna.logging.get_verbosity()
        optuna.logging.set_verbosity(optuna.logging.WARNING)  # "A new study created": of no use under a cell.
        try:
            self._study = optuna.create_study(
                storage=self._storage,
                sampler=self._sampler,
                study_name=self._study_name,
                directions=["maximize" if mode == "max" else "minimize" for mode in modes],
                load_if_exists=True,
            )
        finally:
            optuna.logging.set_verbosity(verbosity)
        self._enter_points()

    def _enter_points(self) -> None:
        assert self._space is not None
        for number, point in enumerate(self._points):
            if self._rewards is None:
                self.study.enqueue_trial(self._space.encode(point))
            else:
                self.add_evaluated_point(point, self._rewards[number])


class SpaceInOptuna:
    """A search space in Optuna's terms, and the way back from Optuna's parameters to a configuration."""

    def __init__(self, space: Mapping[str, Any] | Callable[[optuna.Trial], Mapping[str, Any] | None]) -> None:
        self.distributions: dict[str, optuna.distributions.BaseDistribution] = {}
        self._define = space if callable(space) else None
        self._space: Mapping[str, Any] = {} if callable(space) else space
        self._open: dict[str, tuple[Path, Any]] = {}
        for path, value in leaves(self._space):
            name = "/".join(str(part) for part in path)
            distribution = _distribution(name, value)
            if distribution is not None:
                self.distributions[name] = distribution
                self._open[name] = (path, value)

    @property
    def is_defined_by_run(self) -> bool:
        """Ask whether a function of the trial makes the space."""
        return self._define is not None

    def config_of(self, trial: optuna.Trial) -> dict[str, Any]:
        """Return the configuration of a trial that has been asked."""
        if self._define is not None:
            constants = self._define(trial)
            if constants is not None and not isinstance(constants, Mapping):
                raise TypeError(f"The define-by-run function must return None or a dict, not {constants!r}.")
            if not all(isinstance(name, str) for name in constants or ()):
                raise TypeError(f"The keys that the define-by-run function returns must be text: {constants!r}.")
            return with_flat_values({}, {**trial.params, **(constants or {})})
        if not any(path for path, _ in self._open.values() if len(path) > 1):
            # Names with a slash reach into nested dicts, as those of nested spaces do.
            drawn_flat = {name: _decode(domain, trial.params[name]) for name, (_, domain) in self._open.items()}
            return with_flat_values({}, {**self._space, **drawn_flat})
        drawn = {path: _decode(domain, trial.params[name]) for name, (path, domain) in self._open.items()}
        return with_leaves(self._space, drawn)

    def encode(self, point: Mapping[str, Any]) -> dict[str, Any]:
        """Return a configuration (nested or flat) as Optuna's parameters. Unknown names are left out."""
        if self._define is not None:
            return dict(point)
        flat = {"/".join(str(part) for part in path): value for path, value in leaves(point)}
        return {name: _encode(self._open[name][1], value) for name, value in flat.items() if name in self._open}


def _distribution(name: str, value: Any) -> optuna.distributions.BaseDistribution | None:
    """Return Optuna's distribution for a leaf, None for a constant. Raises ValueError for what Optuna has none for."""
    from optuna import distributions as kinds

    if isinstance(value, kinds.BaseDistribution):
        return value
    if is_grid(value):
        raise ValueError(
            f"Parameter {name!r} is a grid_search, which OptunaSearch cannot sample. Use tune.choice([...]) for it."
        )
    if not isinstance(value, Domain):
        return None
    if isinstance(value, Float):
        step = None if value.log else value.quantum
        return kinds.FloatDistribution(value.lower, value.upper, log=value.log, step=step)
    if isinstance(value, Integer):
        last = value.upper if value.quantum else value.upper - 1
        step = 1 if value.log else value.quantum or 1
        return kinds.IntDistribution(value.lower, last, log=value.log, step=step)
    if isinstance(value, Categorical):
        return kinds.CategoricalDistribution(_choices(value))
    raise ValueError(
        f"Parameter {name!r} is {value!r}, for which Optuna has no distribution. Use uniform, loguniform, randint or "
        "choice for it, or BasicVariantGenerator for the search."
    )


def _choices(domain: Categorical) -> list[Any]:
    """Return the categories as Optuna can store them: plain values as they are, anything else by position."""
    if all(isinstance(category, _PLAIN) for category in domain.categories):
        return domain.categories
    return list(range(len(domain.categories)))


def _decode(domain: Any, value: Any) -> Any:
    if isinstance(domain, Categorical) and _choices(domain) is not domain.categories:
        return domain.categories[value]
    if isinstance(domain, (Float, Integer)) and domain.log:
        return domain.quantize(value)
    return value


def _encode(domain: Any, value: Any) -> Any:
    if isinstance(domain, Categorical) and _choices(domain) is not domain.categories:
        return domain.categories.index(value)
    return value
