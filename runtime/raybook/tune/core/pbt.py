"""Population based training: the worst trials take over state and configuration of the best, slightly changed.

Decides, each perturbation_interval, who is in the top and the bottom quantile; a bottom trial is told to yield, and an
order says from whom it goes on, and with what configuration. A top trial is told to save, so that there is something to
take over. Does not know checkpoints beyond whether a trial has one, nor how state is copied.
With synch=True all trials wait for each other at each interval; otherwise each is judged when it arrives. With more
trials than room they take turns, the one that is least far on first.
Invariants: nobody takes over from a trial without a checkpoint; a trial that has ended is in no quantile; equal calls
with an equal rng give equal orders.
Source: Jaderberg et al. (2017), with the arithmetic and defaults of Ray's PopulationBasedTraining.
"""

from __future__ import annotations

import json
import math
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from raybook.ml.core.metrics import WORST, has_metric, lookup
from raybook.tune.core.mutation import Chooser, check_mutations, draw_value, explore
from raybook.tune.core.orders import Exploit, WriteFile, plain_config
from raybook.tune.core.scheduler import TrialScheduler
from raybook.tune.core.trial_events import CONTINUE, PAUSE, SAVE, YIELD

_OVER = frozenset({"TERMINATED", "STOPPED", "ERROR"})
_WAITS = frozenset({"PENDING", "PAUSED"})


@dataclass
class Member:
    """One trial of the population. last_perturbed, last_seen: in units of time_attr."""

    config: dict[str, Any]
    state: str = "PENDING"
    score: float | None = None
    last_perturbed: float = 0.0
    last_seen: float = 0.0
    iteration: int = 0
    has_checkpoint: bool = False
    log: list[str] = field(default_factory=list)


class PopulationBasedTraining(TrialScheduler):
    """Population based training. Trials need checkpoints.

    time_attr: result key that counts up. perturbation_interval, burn_in_period: in its units.
    hyperparam_mutations: for each parameter a list, a domain, a function without arguments, or a dict of these; what a
    trial's configuration lacks is drawn from it. quantile_fraction: share of trials that is replaced, and copied from.
    resample_probability: of drawing anew instead of changing by one of perturbation_factors (lists: to a neighbour).
    custom_explore_fn: gets the changed configuration and returns the final one. log_config: write pbt_global.txt and
    pbt_policy_<trial>.txt into the run's folder, for PopulationBasedTrainingReplay. require_attrs: a result without
    time_attr or metric is an error. synch: see the module.
    """

    needs_metric = True
    replaces_search = True
    _log_prefix = "pbt"

    def __init__(
        self,
        time_attr: str = "time_total_s",
        metric: str | None = None,
        mode: str | None = None,
        perturbation_interval: float = 60.0,
        burn_in_period: float = 0.0,
        hyperparam_mutations: Mapping[str, Any] | None = None,
        quantile_fraction: float = 0.25,
        resample_probability: float = 0.25,
        perturbation_factors: tuple[float, float] = (1.2, 0.8),
        custom_explore_fn: Callable[[dict[str, Any]], dict[str, Any]] | None = None,
        log_config: bool = True,
        require_attrs: bool = True,
        synch: bool = False,
    ) -> None:
        super().__init__(metric, mode)
        self._mutations = dict(hyperparam_mutations or {})
        check_mutations(self._mutations)
        if not self._mutations and custom_explore_fn is None:
            raise self._error(
                "Population based training needs hyperparam_mutations or a custom_explore_fn: with neither, nothing "
                "would ever change."
            )
        if not 0 <= quantile_fraction <= 0.5:
            raise ValueError(f"quantile_fraction must be between 0 and 0.5, not {quantile_fraction!r}.")
        if perturbation_interval <= 0:
            raise ValueError(f"perturbation_interval must be a positive number, not {perturbation_interval!r}.")
        self._time_attr = time_attr
        self._interval = perturbation_interval
        self._burn_in = burn_in_period
        self._quantile_fraction = quantile_fraction
        self._resample_probability = resample_probability
        self._factors = tuple(perturbation_factors)
        self._custom_explore_fn = custom_explore_fn
        self._log_config = log_config
        self._require_attrs = require_attrs
        self._synch = synch
        self._next_sync = max(perturbation_interval, burn_in_period)
        self._members: dict[str, Member] = {}
        self._is_search_over = False
        self._global_log: list[str] = []
        self._num_perturbations = 0
        self._num_checkpoints = 0

    @staticmethod
    def _error(text: str) -> Exception:
        return ValueError(text)

    @property
    def _rng(self) -> Chooser:
        # Python's global generator, so that `random.seed` makes a run repeat, as with Ray.
        return random  # type: ignore[return-value]

    def add_trial(self, trial_id: str, config: Mapping[str, Any]) -> dict[str, Any] | None:
        missing = {name: draw_value(self._mutations[name], self._rng) for name in self._mutations if name not in config}
        filled = plain_config({**config, **missing})
        self._members[trial_id] = Member(filled)
        return filled if missing else None

    def on_trial_state(self, trial_id: str, state: str) -> None:
        if trial_id in self._members:
            self._members[trial_id].state = state

    def on_checkpoint(self, trial_id: str) -> None:
        if trial_id in self._members:
            self._members[trial_id].has_checkpoint = True

    def on_search_end(self) -> None:
        self._is_search_over = True

    def judge(self, trial_id: str, result: Mapping[str, Any]) -> str:
        member = self._members[trial_id]
        member.iteration = int(result.get("training_iteration", member.iteration))
        if not self._has_all(trial_id, result):
            return CONTINUE
        time = lookup(result, self._time_attr)
        if time < self._burn_in or time - member.last_perturbed < self._interval:
            return CONTINUE
        self._note(trial_id, member, time, self._score(result))
        return self._judge_together(trial_id, time) if self._synch else self._judge_alone(trial_id, member, time)

    def complete_trial(self, trial_id: str, result: Mapping[str, Any]) -> None:
        self._end(trial_id)

    def fail_trial(self, trial_id: str) -> None:
        self._end(trial_id)

    def remove_trial(self, trial_id: str) -> None:
        self._end(trial_id)

    def on_stall(self) -> None:
        if self._synch and any(m.state in _WAITS for m in self._members.values()):
            self._perturb_all(self._next_sync)

    def choose(self, waiting: Sequence[str]) -> str | None:
        """Return the waiting trial that is least far on; with synch only one that has not come to the interval."""
        able = [t for t in waiting if not self._synch or self._last_seen(t) < self._next_sync]
        return min(able, key=self._last_seen, default=None)

    def debug_string(self) -> str:
        return f"PopulationBasedTraining: {self._num_checkpoints} checkpoints, {self._num_perturbations} perturbs"

    def reset_stats(self) -> None:
        """Count from zero again."""
        self._num_perturbations = self._num_checkpoints = 0

    def quantiles(self) -> tuple[list[str], list[str]]:
        """Return (bottom, top): ids from worst to best; both empty below two trials with a score."""
        ranked = [
            trial_id
            for trial_id, member in self._members.items()
            if member.score is not None and member.score > WORST and member.state not in _OVER
        ]
        ranked.sort(key=lambda trial_id: self._members[trial_id].score)  # type: ignore[arg-type, return-value]
        if len(ranked) <= 1:
            return [], []
        count = math.ceil(len(ranked) * self._quantile_fraction)
        count = min(count, len(ranked) // 2)
        return ranked[:count], ranked[len(ranked) - count :]

    def _has_all(self, trial_id: str, result: Mapping[str, Any]) -> bool:
        missing = [name for name in (self._time_attr, self.metric) if not has_metric(result, name)]  # type: ignore[arg-type]
        if missing and self._require_attrs:
            raise RuntimeError(
                f"{type(self).__name__} finds no {missing[0]!r} in a result of trial {trial_id}; it has: "
                f"{', '.join(sorted(result))}. Report it, or pass require_attrs=False to pass over such results."
            )
        return not missing

    def _note(self, trial_id: str, member: Member, time: float, value: float | None) -> None:
        member.score = value
        member.last_seen = time

    def _judge_alone(self, trial_id: str, member: Member, time: float) -> str:
        member.last_perturbed = time
        bottom, top = self.quantiles()
        if trial_id in bottom and self._exploit(trial_id, top):
            return YIELD
        others_wait = any(m.state in _WAITS for other, m in self._members.items() if other != trial_id)
        if others_wait or not self._is_search_over:
            return PAUSE
        if trial_id in top:
            self._num_checkpoints += 1
            return SAVE
        return CONTINUE

    def _judge_together(self, trial_id: str, time: float) -> str:
        live = [member for member in self._members.values() if member.state not in _OVER]
        if not self._is_search_over or any(member.last_seen < self._next_sync for member in live):
            return PAUSE
        return YIELD if trial_id in self._perturb_all(time) else PAUSE

    def _perturb_all(self, time: float) -> list[str]:
        """Let every bottom trial take over from a top one; return which do."""
        bottom, top = self.quantiles()
        for member in self._members.values():
            member.last_perturbed = time
        changed = [trial_id for trial_id in bottom if self._exploit(trial_id, top, will_save=True)]
        furthest = max((member.last_seen for member in self._members.values()), default=0.0)
        self._next_sync = max(self._next_sync + self._interval, furthest)
        return changed

    def _exploit(self, trial_id: str, top: list[str], will_save: bool = False) -> bool:
        source_id = self._rng.choice(top)
        member, source = self._members[trial_id], self._members[source_id]
        if not (source.has_checkpoint or will_save):
            return False
        config, done = self._new_config(trial_id, source_id)
        note = f"{type(self).__name__}: goes on from {source_id}, {done}"
        if self._log_config:
            self._write_log(trial_id, source_id, config)
        self._orders.append(Exploit(trial_id, source_id, config, note))
        member.config = plain_config(config)
        member.last_perturbed, member.last_seen = source.last_perturbed, source.last_seen
        self._num_perturbations += 1
        return True

    def _new_config(self, trial_id: str, source_id: str) -> tuple[dict[str, Any], dict[str, Any]]:
        source = self._members[source_id].config
        return explore(
            source, self._mutations, self._resample_probability, self._factors, self._custom_explore_fn, self._rng
        )

    def _write_log(self, trial_id: str, source_id: str, config: Mapping[str, Any]) -> None:
        member, source = self._members[trial_id], self._members[source_id]
        # Target, source, their iterations, the source's configuration, the new one: the columns of Ray's policy files.
        row = [trial_id, source_id, member.iteration, source.iteration, source.config, config]
        line = json.dumps(row, default=repr)
        self._global_log.append(line)
        member.log = [*source.log, line]
        prefix = self._log_prefix
        self._orders.append(WriteFile(f"{prefix}_global.txt", "\n".join(self._global_log) + "\n"))
        self._orders.append(WriteFile(f"{prefix}_policy_{trial_id}.txt", "\n".join(member.log) + "\n"))

    def _last_seen(self, trial_id: str) -> float:
        return self._members[trial_id].last_seen if trial_id in self._members else 0.0

    def _end(self, trial_id: str) -> None:
        if trial_id in self._members:
            self._members[trial_id].state = "TERMINATED"
