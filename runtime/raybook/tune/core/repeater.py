"""Repeater: evaluates each suggestion several times and tells the searcher the mean.

Decides which trial repeats which suggestion. Invariants: the searcher hears of one trial a group, the first, once all of
the group are over; a repeat that failed or reported no number does not count in the mean.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from raybook.ml.core.metrics import has_metric, is_number, lookup
from raybook.tune.core.orders import plain_config
from raybook.tune.core.searcher import Searcher

TRIAL_INDEX = "__trial_index__"


class Group:
    """The trials of one suggestion. scores: by trial, None until it is over."""

    def __init__(self, first: str, config: Mapping[str, Any], size: int) -> None:
        self.first = first
        self.config = config
        self.size = size
        self.scores: dict[str, float | None] = {}

    @property
    def is_full(self) -> bool:
        """Ask whether all repeats have been handed out."""
        return len(self.scores) == self.size

    @property
    def is_over(self) -> bool:
        """Ask whether all repeats are over."""
        return self.is_full and None not in self.scores.values()


class Repeater(Searcher):
    """Runs every suggestion of searcher repeat times; num_samples counts the repeats.

    set_index: put the number of the repeat into the configuration as "__trial_index__", for seeds.
    """

    def __init__(self, searcher: Searcher, repeat: int = 1, set_index: bool = True) -> None:
        if not isinstance(searcher, Searcher):
            raise TypeError(f"Repeater repeats the suggestions of a Searcher, not of {searcher!r}.")
        if not isinstance(repeat, int) or repeat < 1:
            raise ValueError(f"repeat must be 1 or more, not {repeat!r}.")
        super().__init__(searcher.metric, searcher.mode)
        self.searcher = searcher
        self.repeat = repeat
        self._set_index = set_index
        self._group: Group | None = None
        self._group_of: dict[str, Group] = {}

    def set_search_properties(
        self, metric: str | None, mode: str | None, config: Mapping[str, Any], **spec: Any
    ) -> bool:
        accepted = self.searcher.set_search_properties(metric, mode, config, **spec)
        self.metric, self.mode = self.searcher.metric or metric, self.searcher.mode or mode
        return accepted

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:
        if self._group is None or self._group.is_full:
            config = self.searcher.suggest(trial_id)
            if not isinstance(config, dict):
                return config
            self._group = Group(trial_id, config, self.repeat)
        group = self._group
        config = plain_config(group.config)
        if self._set_index:
            config[TRIAL_INDEX] = len(group.scores)
        group.scores[trial_id] = None
        self._group_of[trial_id] = group
        return config

    def on_trial_complete(self, trial_id: str, result: Mapping[str, Any] | None = None, error: bool = False) -> None:
        group = self._group_of.pop(trial_id, None)
        if group is None:
            return
        value = lookup(result, self.metric) if result and self.metric and has_metric(result, self.metric) else math.nan
        group.scores[trial_id] = value if is_number(value) else math.nan
        if group.is_over:
            known = [score for score in group.scores.values() if score is not None and not math.isnan(score)]
            mean = sum(known) / len(known) if known else math.nan
            self.searcher.on_trial_complete(group.first, result={self.metric: mean}, error=not known and error)

    def save(self, checkpoint_path: str) -> None:
        self.searcher.save(checkpoint_path)

    def restore(self, checkpoint_path: str) -> None:
        self.searcher.restore(checkpoint_path)
