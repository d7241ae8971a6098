"""Trial table: the states of all trials of one sweep, and what each has reported.

Decides which change of state is legal and keeps the figures that a user asks for afterwards. Does not know why a
trial changes state, nor what runs it.
Invariants: a state changes only along TRANSITIONS; a terminal trial never runs again; the attempt number grows with
every launch; a trial's iteration equals the number reported last.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from raybook.ml.core.checkpoint_ledger import CheckpointLedger
from raybook.ml.core.metrics import MetricSummary, flatten, is_number
from raybook.tune.core.resource_request import ResourceRequest

PENDING = "PENDING"  # Waits to be launched.
STARTING = "STARTING"  # Launched; waits for room in the cluster and for its process.
RUNNING = "RUNNING"
PAUSING = "PAUSING"  # Told to pause; saves its checkpoint.
PAUSED = "PAUSED"
TERMINATED = "TERMINATED"  # Ran to its end.
STOPPED = "STOPPED"  # Ended early by a scheduler, a time budget or the user.
ERROR = "ERROR"
STATES = (PENDING, STARTING, RUNNING, PAUSING, PAUSED, TERMINATED, STOPPED, ERROR)
TERMINAL = frozenset({TERMINATED, STOPPED, ERROR})
LIVE = frozenset({STARTING, RUNNING, PAUSING})

# (state, edge) -> state. Anything that is not here is a bug in the caller.
TRANSITIONS: Mapping[tuple[str, str], str] = {
    (PENDING, "launch"): STARTING,
    (PAUSED, "launch"): STARTING,
    (STARTING, "start"): RUNNING,
    (RUNNING, "report"): RUNNING,
    (RUNNING, "pause"): PAUSING,
    (PAUSING, "release"): PAUSED,
    (RUNNING, "complete"): TERMINATED,
    (STARTING, "retry"): PENDING,
    (RUNNING, "retry"): PENDING,
    (PAUSING, "retry"): PENDING,
    (STARTING, "fail"): ERROR,
    (RUNNING, "fail"): ERROR,
    (PAUSING, "fail"): ERROR,
    (PENDING, "stop"): STOPPED,
    (STARTING, "stop"): STOPPED,
    (RUNNING, "stop"): STOPPED,
    (PAUSING, "stop"): STOPPED,
    (PAUSED, "stop"): STOPPED,
}
HISTORY_POINTS = 60  # As many as a sparkline shows; halved when full, so it always spans the whole run.
STORY_LINES = 64


class IllegalTransitionError(RuntimeError):
    """A trial was asked to change state in a way its table does not have: a bug in the controller."""


@dataclass(eq=False, repr=False)
class Trial:
    """One trial. Times are milliseconds of the controller's clock; None until they happen."""

    trial_id: str
    index: int
    name: str
    config: dict[str, Any]
    resources: dict[str, float]
    checkpoints: CheckpointLedger
    varying: dict[str, Any] = field(default_factory=dict)
    state: str = PENDING
    attempt: int = 0
    failures: int = 0
    iteration: int = 0
    reports: int = 0
    next_checkpoint: int = 0
    last_result: dict[str, Any] = field(default_factory=dict)
    summaries: dict[str, MetricSummary] = field(default_factory=dict)
    history: list[float] = field(default_factory=list)
    placement: dict[str, Any] = field(default_factory=dict)
    error: BaseException | None = None
    error_details: str = ""
    folder: str = ""
    started_ms: int | None = None
    ended_ms: int | None = None
    story: deque[tuple[int, str]] = field(default_factory=lambda: deque(maxlen=STORY_LINES))
    request: ResourceRequest = field(default_factory=lambda: ResourceRequest([{"CPU": 1.0}]))
    trainable_name: str = "trainable"
    _history_stride: int = 1

    @property
    def is_terminal(self) -> bool:
        """Ask whether the trial has ended for good."""
        return self.state in TERMINAL

    @property
    def is_live(self) -> bool:
        """Ask whether something of the trial runs or is being started."""
        return self.state in LIVE

    @property
    def status(self) -> str:
        """The state in the words of Ray, which knows no STARTING, no PAUSING and no STOPPED."""
        return {STARTING: PENDING, PAUSING: RUNNING, STOPPED: TERMINATED}.get(self.state, self.state)

    # The same under the names that callbacks and creators of names written for Ray use.
    PENDING = PENDING
    RUNNING = RUNNING
    PAUSED = PAUSED
    TERMINATED = TERMINATED
    ERROR = ERROR

    @property
    def evaluated_params(self) -> dict[str, Any]:
        """The parameters that the search space leaves open, flat."""
        return dict(self.varying)

    @property
    def experiment_tag(self) -> str:
        """Number and open parameters in one text."""
        shown = ",".join(f"{name}={_short(value)}" for name, value in self.varying.items())
        return f"{self.index}_{shown}" if shown else str(self.index)

    @property
    def local_path(self) -> str:
        """The trial's folder."""
        return self.folder

    path = local_dir = logdir = local_path

    @property
    def placement_group_factory(self) -> ResourceRequest:
        """What the trial holds while it runs."""
        return self.request

    @property
    def metric_analysis(self) -> dict[str, dict[str, float]]:
        """{metric: {"max", "min", "avg", "last", "last-5-avg", "last-10-avg": value}}."""
        return {
            name: {
                "max": summary.maximum,
                "min": summary.minimum,
                **{scope: summary.value(scope, "max") for scope in ("avg", "last", "last-5-avg", "last-10-avg")},
            }
            for name, summary in self.summaries.items()
        }

    @property
    def num_failures(self) -> int:
        """How often an attempt has failed."""
        return self.failures

    def is_finished(self) -> bool:
        """Ask whether the trial has ended for good."""
        return self.is_terminal

    def get_error(self) -> BaseException | None:
        """Return the error that ended the trial, or None."""
        return self.error

    def __repr__(self) -> str:
        return self.name

    def note_result(self, result: Mapping[str, Any], metric: str | None) -> None:
        """Take one result into the trial's figures."""
        self.reports += 1
        self.iteration = int(result.get("training_iteration", self.iteration + 1))
        self.last_result = dict(result)
        for name, value in flatten({key: value for key, value in result.items() if key != "config"}).items():
            if is_number(value):
                self.summaries.setdefault(name, MetricSummary()).add(value)
        if metric is not None and metric in self.summaries:
            self.note_metric(self.summaries[metric].last)

    def note_metric(self, value: float) -> None:
        """Add one value of the tuned metric to the bounded history: every 1st, 2nd, 4th… report as it grows long."""
        if (self.reports - 1) % self._history_stride:
            return
        if len(self.history) == HISTORY_POINTS:
            self.history = self.history[::2]
            self._history_stride *= 2
            if (self.reports - 1) % self._history_stride:
                return
        self.history.append(value)


def _short(value: Any) -> str:
    return f"{value:.4f}" if isinstance(value, float) else str(value)


class TrialTable:
    """All trials of one sweep by id, in the order they were added."""

    def __init__(self) -> None:
        self._trials: dict[str, Trial] = {}
        self._names: dict[str, str] = {}
        # Ids by state, in the order they came into it: a sweep of 10,000 trials asks for its few live ones often.
        self._by_state: dict[str, dict[str, None]] = {state: {} for state in STATES}

    def take_over(self, trial: Trial, now_ms: int) -> None:
        """Enter a trial of an earlier run, in the state it has. Raises ValueError if its id or its name is taken."""
        self.add(trial, now_ms, note=f"taken over as {trial.state}")

    def add(self, trial: Trial, now_ms: int, note: str = "added") -> None:
        """Enter a new trial. Raises ValueError if its id or its name is taken."""
        if trial.trial_id in self._trials:
            raise ValueError(f"Trial id {trial.trial_id!r} is taken.")
        if trial.name in self._names:
            raise ValueError(
                f"Trial {trial.trial_id} would be named {trial.name!r} like trial {self._names[trial.name]}. "
                "Trials share one folder by name: make trial_name_creator return a name of its own for each, "
                "for instance by adding trial.trial_id."
            )
        self._trials[trial.trial_id] = trial
        self._names[trial.name] = trial.trial_id
        self._by_state[trial.state][trial.trial_id] = None
        trial.story.append((now_ms, note))

    def apply(self, trial_id: str, edge: str, now_ms: int, note: str = "") -> Trial:
        """Move a trial along one edge. Raises IllegalTransitionError, with the story, if there is no such edge."""
        trial = self._trials[trial_id]
        target = TRANSITIONS.get((trial.state, edge))
        if target is None:
            raise IllegalTransitionError(
                f"Trial {trial_id} is {trial.state}: no edge {edge!r}.\n{self.story(trial_id)}"
            )
        if edge != "report":
            trial.story.append((now_ms, f"{edge}: {trial.state} -> {target}{f' ({note})' if note else ''}"))
        if target != trial.state:
            del self._by_state[trial.state][trial_id]
            self._by_state[target][trial_id] = None
        trial.state = target
        if edge == "launch":
            trial.attempt += 1
        if edge == "start" and trial.started_ms is None:
            trial.started_ms = now_ms
        if target in TERMINAL:
            trial.ended_ms = now_ms
        return trial

    def record_result(self, trial_id: str, result: Mapping[str, Any], metric: str | None, now_ms: int) -> Trial:
        """Enter one reported result. metric: the tuned metric, whose values make up the history."""
        trial = self.apply(trial_id, "report", now_ms)
        trial.note_result(result, metric)
        return trial

    def get(self, trial_id: str) -> Trial:
        """Return the trial. Raises KeyError."""
        return self._trials[trial_id]

    def __iter__(self) -> Iterator[Trial]:
        return iter(self._trials.values())

    def __len__(self) -> int:
        return len(self._trials)

    def __contains__(self, trial_id: object) -> bool:
        return trial_id in self._trials

    def in_state(self, *states: str) -> list[Trial]:
        """Return the trials in the given states, state by state. Cost: O(trials returned)."""
        return [self._trials[trial_id] for state in states for trial_id in self._by_state[state]]

    def count(self, *states: str) -> int:
        """Return how many trials are in the given states. Cost: O(states)."""
        return sum(len(self._by_state[state]) for state in states)

    def is_settled(self) -> bool:
        """Ask whether every trial has ended. Cost: O(1)."""
        return self.count(*TERMINAL) == len(self._trials)

    def statistics(self) -> Mapping[str, int]:
        """Return how many trials are in each state. Cost: O(1)."""
        return {state: len(ids) for state, ids in self._by_state.items()}

    def story(self, trial_id: str) -> str:
        """Return what happened to a trial, one line a change, for error messages and bug reports."""
        return "\n".join(f"{at_ms:>10} ms  {line}" for at_ms, line in self._trials[trial_id].story)

    def check_invariants(self) -> None:
        """Raise AssertionError if a trial contradicts itself. Cost: O(all trials); for tests and simulations."""
        assert sum(len(ids) for ids in self._by_state.values()) == len(self._trials), "a trial is listed twice"
        for trial in self._trials.values():
            assert trial.trial_id in self._by_state[trial.state], f"{trial.trial_id} is not listed as {trial.state}"
            assert trial.is_terminal == (trial.ended_ms is not None), f"{trial.trial_id}: end time and state differ"
            assert (trial.state == ERROR) == (trial.error is not None), f"{trial.trial_id}: error and state differ"
            assert len(trial.history) <= HISTORY_POINTS, f"{trial.trial_id}: history grew past its bound"
            assert trial.attempt > 0 or trial.state in (PENDING, STOPPED), f"{trial.trial_id}: ran without a launch"
            assert trial.failures <= trial.attempt, f"{trial.trial_id}: failed more often than it was launched"
