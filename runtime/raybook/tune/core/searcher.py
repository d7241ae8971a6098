"""Searchers: the contract of what proposes configurations, and a limit on how many are out at once.

A searcher is asked for a configuration and told what came of it. It does not know the controller, the cluster or time.
Contract (tests/libs/test_searcher_contract.py): `suggest` returns a configuration, None ("not now, ask again after a
result") or FINISHED ("never again"); every suggested trial is completed exactly once; a failed trial or a NaN never
breaks the search.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from raybook.ml.core.metrics import check_mode

FINISHED = "FINISHED"


class Searcher:
    """Base of all search algorithms."""

    FINISHED = FINISHED
    # True for a generator that knows by itself how many trials there are (a grid), so num_samples is no limit on it.
    counts_trials = False

    def __init__(self, metric: str | None = None, mode: str | None = None) -> None:
        if mode is not None:
            check_mode(mode, "mode")
        self.metric = metric
        self.mode = mode

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


class ConcurrencyLimiter(Searcher):
    """Lets at most max_concurrent suggestions of a searcher be out at once.

    batch: hand out max_concurrent of them, then wait until all are back, and tell the searcher all results together.
    """

    def __init__(self, searcher: Searcher, max_concurrent: int, batch: bool = False) -> None:
        if not isinstance(searcher, Searcher):
            raise TypeError(f"ConcurrencyLimiter limits a Searcher, not {searcher!r}.")
        if not isinstance(max_concurrent, int) or max_concurrent < 1:
            raise ValueError(f"max_concurrent must be 1 or more, not {max_concurrent!r}.")
        super().__init__(searcher.metric, searcher.mode)
        self.searcher = searcher
        self.max_concurrent = max_concurrent
        self.batch = batch
        self.counts_trials = searcher.counts_trials
        self._out: set[str] = set()
        self._held_back: dict[str, tuple[Mapping[str, Any] | None, bool]] = {}

    def set_search_properties(
        self, metric: str | None, mode: str | None, config: Mapping[str, Any], **spec: Any
    ) -> bool:
        accepted = self.searcher.set_search_properties(metric, mode, config, **spec)
        self.metric, self.mode = self.searcher.metric, self.searcher.mode
        return accepted

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:
        if len(self._out) + len(self._held_back) >= self.max_concurrent:
            return None
        suggestion = self.searcher.suggest(trial_id)
        if isinstance(suggestion, dict):
            self._out.add(trial_id)
        elif suggestion == FINISHED and self._held_back and not self._out:
            self._hand_back()
        return suggestion

    def on_trial_result(self, trial_id: str, result: Mapping[str, Any]) -> None:
        self.searcher.on_trial_result(trial_id, result)

    def on_trial_complete(self, trial_id: str, result: Mapping[str, Any] | None = None, error: bool = False) -> None:
        if trial_id not in self._out:
            return
        self._out.discard(trial_id)
        if not self.batch:
            self.searcher.on_trial_complete(trial_id, result, error)
            return
        self._held_back[trial_id] = (result, error)
        if not self._out or len(self._held_back) >= self.max_concurrent:
            self._hand_back()

    def _hand_back(self) -> None:
        for trial_id, (result, error) in self._held_back.items():
            self.searcher.on_trial_complete(trial_id, result, error)
        self._held_back.clear()
