"""HyperBand: brackets of trials that advance together; at each milestone a bracket keeps its best 1/eta.

Decides who waits, who is stopped and who goes on. Trials pause at a milestone until the whole bracket is there.
Arithmetic: with s_max = round(log(max_t)/log(eta)), bracket s takes ceil((s_max + 1)/(s + 1) · eta^s) trials and gives
each max_t · eta^-s at first; after a milestone ceil(n/eta) trials go on to eta times as much. A round has the brackets
s = 0 … s_max in this order, then the next round begins: (5, 81) (8, 27) (15, 9) (34, 3) (81, 1) for max_t 81, eta 3.
A bracket is halved once all of its live trials wait at the milestone and it is full; if no more trials come, or nothing
else can run, also before it is full.
Invariants: a trial is in one bracket; a stopped trial never counts again; a verdict depends on earlier calls alone.
Source: Li et al., "Hyperband" (2018), with the defaults of Ray's HyperBandScheduler.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from raybook.ml.core.metrics import WORST, has_metric, lookup
from raybook.tune.core.orders import StopTrial
from raybook.tune.core.scheduler import TrialScheduler
from raybook.tune.core.trial_events import COMPLETE, CONTINUE, PAUSE, STOP


class Bracket:
    """Trials that are halved together. size: how many it takes; milestone: where they meet next."""

    def __init__(self, size: int, milestone: int, max_t: int, eta: float, halvings: int) -> None:
        self.size = size
        self.milestone = milestone
        self.halvings_left = halvings
        self.added = 0
        # Live trials: id -> (time, score) of the last result, None before the first.
        self.live: dict[str, tuple[float, float] | None] = {}
        self.may_go_on: set[str] = set()
        self._capacity = size
        self._max_t = max_t
        self._eta = eta

    @property
    def is_full(self) -> bool:
        """Ask whether it takes no more trials."""
        return self.added >= self._capacity

    def add(self, trial_id: str) -> None:
        """Take one more trial."""
        self.live[trial_id] = None
        self.added += 1

    def has_reached(self, trial_id: str) -> bool:
        """Ask whether a live trial has come to the milestone."""
        seen = self.live[trial_id]
        return seen is not None and seen[0] >= self.milestone

    def is_assembled(self) -> bool:
        """Ask whether every live trial has come to the milestone."""
        return all(self.has_reached(trial_id) for trial_id in self.live)

    def halve(self) -> tuple[list[str], list[str]]:
        """Move the milestone on; return (who goes on, who stops), the earlier trial losing a tie."""
        self.halvings_left -= 1
        self.size = math.ceil(self.size / self._eta)
        self.milestone = int(min(self.milestone * self._eta, self._max_t))
        ranked = sorted(self.live, key=lambda trial_id: self._score(trial_id))
        cut = max(0, len(ranked) - self.size)
        return ranked[cut:], ranked[:cut]

    def progress(self) -> float:
        """Return how far the live trials are, 0 to 1, towards the milestone."""
        if not self.live:
            return 1.0
        done = sum(min(seen[0], self.milestone) for seen in self.live.values() if seen is not None)
        return done / (self.milestone * len(self.live))

    def _score(self, trial_id: str) -> float:
        seen = self.live[trial_id]
        return WORST if seen is None else seen[1]


class HyperBandScheduler(TrialScheduler):
    """HyperBand, with trials that pause and go on: they need checkpoints (ASHA does not, and is usually quicker).

    time_attr: result key that counts up. max_t: the most that a trial gets, in its units. reduction_factor: of how many
    trials one survives a milestone. stop_last_trials: False lets survivors run past max_t.
    """

    needs_metric = True
    _largest_first = False

    def __init__(
        self,
        time_attr: str = "training_iteration",
        metric: str | None = None,
        mode: str | None = None,
        max_t: int = 81,
        reduction_factor: float = 3,
        stop_last_trials: bool = True,
    ) -> None:
        super().__init__(metric, mode)
        if max_t <= 0:
            raise ValueError(f"max_t must be above 0, not {max_t!r}.")
        if reduction_factor <= 1:
            raise ValueError(f"reduction_factor must be above 1, not {reduction_factor!r}.")
        self._time_attr = time_attr
        self._max_t = max_t
        self._eta = reduction_factor
        self._stop_last_trials = stop_last_trials
        self.brackets_a_round = round(math.log(max_t) / math.log(reduction_factor)) + 1
        self.rounds: list[list[Bracket]] = []
        self._bracket_of: dict[str, Bracket] = {}
        self._is_search_over = False
        self._stopped = 0
        self._first_open = 0

    def bracket_size(self, s: int) -> int:
        """Return how many trials bracket s takes."""
        return math.ceil(self.brackets_a_round / (s + 1) * self._eta**s)

    def first_milestone(self, s: int) -> int:
        """Return how much each trial of bracket s gets at first."""
        # The epsilon keeps 3 ** -1 * 81 = 26.999999999999996 at 27.
        return int(self._max_t * self._eta**-s + 1e-9)

    def add_trial(self, trial_id: str, config: Mapping[str, Any]) -> None:
        bracket = self._open_bracket()
        bracket.add(trial_id)
        self._bracket_of[trial_id] = bracket

    def judge(self, trial_id: str, result: Mapping[str, Any]) -> str:
        bracket = self._bracket_of[trial_id]
        value = self._score(result)
        if value is None or not has_metric(result, self._time_attr):
            return CONTINUE
        time = lookup(result, self._time_attr)
        bracket.live[trial_id] = (time, value)
        bracket.may_go_on.discard(trial_id)
        if not bracket.has_reached(trial_id):
            return CONTINUE
        if bracket.halvings_left == 0:
            return COMPLETE if self._stop_last_trials else CONTINUE
        if time >= self._max_t and self._stop_last_trials:
            return COMPLETE
        self._advance(bracket, current=trial_id)
        if trial_id not in bracket.live:
            return STOP
        if trial_id in bracket.may_go_on:
            bracket.may_go_on.discard(trial_id)
            return CONTINUE
        return PAUSE

    def complete_trial(self, trial_id: str, result: Mapping[str, Any]) -> None:
        self._leave(trial_id)

    def fail_trial(self, trial_id: str) -> None:
        self._leave(trial_id)

    def remove_trial(self, trial_id: str) -> None:
        self._leave(trial_id)

    def on_search_end(self) -> None:
        self._is_search_over = True
        for bracket in self._brackets():
            self._advance(bracket)

    def on_stall(self) -> None:
        for bracket in self._brackets():
            self._advance(bracket, is_forced=True)

    def choose(self, waiting: Sequence[str]) -> str | None:
        """Return a waiting trial of the earliest round, of the bracket that is least far on."""
        offered = set(waiting)
        while self._first_open < len(self.rounds) - 1 and self._is_over(self.rounds[self._first_open]):
            self._first_open += 1  # A round that is over stays so: ten thousand trials make six hundred of them.
        for brackets in self.rounds[self._first_open :]:
            for bracket in self._in_order(brackets):
                for trial_id in bracket.live:
                    if trial_id in offered and (bracket.live[trial_id] is None or trial_id in bracket.may_go_on):
                        return trial_id
        # A trial that came back after a failure has a result and no leave to go on: it has not reached the milestone.
        return next((t for t in waiting if t in self._bracket_of and not self._bracket_of[t].has_reached(t)), None)

    def debug_string(self) -> str:
        brackets = self._brackets()
        lines = [f"Using HyperBand: num_stopped={self._stopped} total_brackets={len(brackets)}"]
        for number, group in enumerate(self.rounds):
            lines.append(f"Round #{number}:")
            lines += [
                f"  Bracket(Max Size (n)={b.size}, Milestone (r)={b.milestone}, completed={b.progress():.1%}): "
                f"{len(b.live)} live"
                for b in group
            ]
        return "\n".join(lines)

    def state(self) -> dict[str, int]:
        """Return {"num_brackets": …, "num_stopped": …}."""
        return {"num_brackets": len(self._brackets()), "num_stopped": self._stopped}

    def _in_order(self, brackets: list[Bracket]) -> list[Bracket]:
        return brackets if self._largest_first else sorted(brackets, key=Bracket.progress)

    def _is_over(self, brackets: list[Bracket]) -> bool:
        return len(brackets) == self.brackets_a_round and all(b.is_full and not b.live for b in brackets)

    def _brackets(self) -> list[Bracket]:
        return [bracket for brackets in self.rounds for bracket in brackets]

    def _open_bracket(self) -> Bracket:
        if self.rounds and self.rounds[-1] and not self.rounds[-1][-1].is_full:
            return self.rounds[-1][-1]
        if not self.rounds or len(self.rounds[-1]) == self.brackets_a_round:
            self.rounds.append([])
        number = len(self.rounds[-1])
        s = self.brackets_a_round - 1 - number if self._largest_first else number
        milestone = max(1, self.first_milestone(s))
        bracket = Bracket(self.bracket_size(s), milestone, self._max_t, self._eta, s)
        self.rounds[-1].append(bracket)
        return bracket

    def _advance(self, bracket: Bracket, current: str | None = None, is_forced: bool = False) -> None:
        """Halve the bracket as often as its live trials allow; give leave to go on, and order the rest stopped."""
        while bracket.live and bracket.halvings_left > 0 and bracket.is_assembled():
            if not (bracket.is_full or self._is_search_over or is_forced):
                return
            good, bad = bracket.halve()
            for trial_id in bad:
                del bracket.live[trial_id]
                bracket.may_go_on.discard(trial_id)
                self._stopped += 1
                if trial_id != current:
                    self._orders.append(StopTrial(trial_id, "HyperBand: among the worst of its bracket"))
            # Who is far ahead already waits for the others at the new milestone.
            bracket.may_go_on |= {trial_id for trial_id in good if not bracket.has_reached(trial_id)}
            if bracket.halvings_left == 0:
                self._release_finished(bracket, current)

    def _release_finished(self, bracket: Bracket, current: str | None) -> None:
        """At the last milestone nobody waits for anybody: who is there already has had all there is."""
        for trial_id in [trial_id for trial_id in bracket.live if bracket.has_reached(trial_id)]:
            if trial_id == current or not self._stop_last_trials:
                bracket.may_go_on.add(trial_id)
            else:
                del bracket.live[trial_id]
                self._orders.append(StopTrial(trial_id, "HyperBand: has had max_t"))

    def _leave(self, trial_id: str) -> None:
        bracket = self._bracket_of.pop(trial_id, None)
        if bracket is not None:
            bracket.live.pop(trial_id, None)
            bracket.may_go_on.discard(trial_id)
            self._advance(bracket)


class HyperBandForBOHB(HyperBandScheduler):
    """HyperBand with the largest bracket first, as the BOHB searcher wants it. Arguments as HyperBandScheduler."""

    _largest_first = True
