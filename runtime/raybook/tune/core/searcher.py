"""Searchers: the contract of what proposes configurations, and a limit on how many are out at once.

A searcher is asked for a configuration and told what came of it. It does not know the controller, the cluster or time.
Contract (tests/libs/test_searcher_contract.py): `suggest` returns a configuration, None ("not now, ask again after a
result") or FINISHED ("never again"); every suggested trial is completed exactly once; a failed trial or a NaN never
breaks the search.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import cloudpickle

from raybook.ml.core.metrics import check_mode, has_metric, lookup

FINISHED = "FINISHED"
STATE_FILE = "searcher-state-{}.pkl"


class Searcher:
    """Base of all search algorithms."""

    FINISHED = FINISHED
    # True for a generator that knows by itself how many trials there are (a grid), so num_samples is no limit on it.
    counts_trials = False
    # How many trials there will be, if counts_trials and known.
    total_samples: int | None = None

    def __init__(self, metric: Any = None, mode: Any = None) -> None:
        for one in [mode] if isinstance(mode, str) or mode is None else mode:
            if one is not None:
                check_mode(one, "mode")
        if isinstance(metric, (list, tuple)) and isinstance(mode, (list, tuple)) and len(metric) != len(mode):
            raise ValueError(f"There must be one mode for each metric, and there are {mode} for {metric}.")
        self._metric = metric
        self._mode = mode

    # Searchers written for Ray read and set the names with underscores.
    @property
    def metric(self) -> Any:
        """What is tuned: a name, or a list of names for several goals."""
        return getattr(self, "_metric", None)

    @metric.setter
    def metric(self, metric: Any) -> None:
        self._metric = metric

    @property
    def mode(self) -> Any:
        """min or max, or a list of these."""
        return getattr(self, "_mode", None)

    @mode.setter
    def mode(self, mode: Any) -> None:
        self._mode = mode

    def set_search_properties(
        self, metric: str | None, mode: str | None, config: Mapping[str, Any], **spec: Any
    ) -> bool:
        """Take metric, mode and search space from the Tuner. Returns False if the searcher has its own already."""
        return False

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:
        """Return a configuration for trial_id, None for not now, FINISHED for never again."""
        raise NotImplementedError

    def on_trial_result(self, trial_id: str, result: Mapping[str, Any]) -> None:
        """A suggested trial reported."""

    def on_trial_complete(self, trial_id: str, result: Mapping[str, Any] | None = None, error: bool = False) -> None:
        """A suggested trial has ended. result: its last one, None if it failed or never reported."""

    def on_pause(self, trial_id: str) -> None:
        """A suggested trial was paused."""

    def on_unpause(self, trial_id: str) -> None:
        """A paused trial goes on."""

    def add_evaluated_point(
        self,
        parameters: Mapping[str, Any],
        value: float,
        error: bool = False,
        pruned: bool = False,
        intermediate_values: Sequence[float] | None = None,
    ) -> None:
        """Tell of a configuration that was evaluated elsewhere. Raises NotImplementedError where that is not possible."""
        raise NotImplementedError(f"{type(self).__name__} cannot be told of points that were evaluated elsewhere.")

    def add_evaluated_trials(self, trials_or_analysis: Any, metric: str) -> None:
        """Tell of trials that have ended: one, a list, or those of an ExperimentAnalysis."""
        if type(self).add_evaluated_point is Searcher.add_evaluated_point:
            self.add_evaluated_point({}, 0.0)
        trials: Any = getattr(trials_or_analysis, "trials", trials_or_analysis)
        for trial in trials if isinstance(trials, (list, tuple)) else [trials]:
            if has_metric(trial.last_result, metric):
                failed = trial.status == "ERROR"
                self.add_evaluated_point(trial.config, lookup(trial.last_result, metric), error=failed)

    def set_max_concurrency(self, max_concurrent: int) -> bool:
        """Take over the limit of a ConcurrencyLimiter. Returns False if the limiter shall keep it."""
        return False

    def get_state(self) -> dict[str, Any]:
        """Return all that the searcher knows."""
        return dict(self.__dict__)

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Take back what get_state returned."""
        self.__dict__.update(state)

    def save(self, checkpoint_path: str) -> None:
        """Store the state in a file. Raises what pickling raises."""
        with open(checkpoint_path, "wb") as file:
            cloudpickle.dump(self.get_state(), file)

    def restore(self, checkpoint_path: str) -> None:
        """Take back what save stored. Only from files you trust."""
        with open(checkpoint_path, "rb") as file:
            self.set_state(cloudpickle.load(file))

    def save_to_dir(self, checkpoint_dir: str, session_str: str = "default") -> None:
        """Store the state in a folder."""
        self.save(f"{checkpoint_dir}/{STATE_FILE.format(session_str)}")

    def restore_from_dir(self, checkpoint_dir: str, session_str: str = "default") -> None:
        """Take back what save_to_dir stored. Raises FileNotFoundError."""
        self.restore(f"{checkpoint_dir}/{STATE_FILE.format(session_str)}")
