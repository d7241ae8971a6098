"""Concurrency limiter: bounds how many suggestions of a searcher are out at once.

Decides only when to ask; the suggestions are the searcher's. Invariant: at most max_concurrent are out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from raybook.tune.core.searcher import FINISHED, Searcher


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
        self._limits = not searcher.set_max_concurrency(max_concurrent)
        self._out: set[str] = set()
        self._held_back: dict[str, tuple[Mapping[str, Any] | None, bool]] = {}

    @property
    def total_samples(self) -> int | None:  # type: ignore[override]
        return self.searcher.total_samples

    def set_max_concurrency(self, max_concurrent: int) -> bool:
        self.max_concurrent = max_concurrent
        return True

    def set_search_properties(
        self, metric: str | None, mode: str | None, config: Mapping[str, Any], **spec: Any
    ) -> bool:
        accepted = self.searcher.set_search_properties(metric, mode, config, **spec)
        self.metric, self.mode = self.searcher.metric, self.searcher.mode
        return accepted

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:
        if self._limits and len(self._out) + len(self._held_back) >= self.max_concurrent:
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
            self.searcher.on_trial_complete(trial_id, result=result, error=error)
            return
        self._held_back[trial_id] = (result, error)
        if not self._out or len(self._held_back) >= self.max_concurrent:
            self._hand_back()

    def on_pause(self, trial_id: str) -> None:
        self.searcher.on_pause(trial_id)

    def on_unpause(self, trial_id: str) -> None:
        self.searcher.on_unpause(trial_id)

    def add_evaluated_point(
        self,
        parameters: Mapping[str, Any],
        value: float,
        error: bool = False,
        pruned: bool = False,
        intermediate_values: Sequence[float] | None = None,
    ) -> None:
        self.searcher.add_evaluated_point(parameters, value, error, pruned, intermediate_values)

    def save(self, checkpoint_path: str) -> None:
        self.searcher.save(checkpoint_path)

    def restore(self, checkpoint_path: str) -> None:
        self.searcher.restore(checkpoint_path)

    def _hand_back(self) -> None:
        for trial_id, (result, error) in self._held_back.items():
            self.searcher.on_trial_complete(trial_id, result=result, error=error)
        self._held_back.clear()
