"""A trial executor in virtual time: trials are scripts, the clock jumps from event to event.

Passes the same contract suite as the real one. Simulates room, durations, failures and lost processes; nothing runs
and nothing waits, so ten thousand trials take a second.
"""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from raybook.tune.core.capacity import fits, shortfall
from raybook.tune.core.resource_request import as_request
from raybook.tune.core.trial_events import (
    CONTINUE,
    PAUSE,
    SAVE,
    TrialEvent,
    TrialFailed,
    TrialFinished,
    TrialReleased,
    TrialReported,
    TrialSaved,
    TrialStarted,
)
from raybook.tune.error import TuneError
from raybook.tune.executor import Resources, TrialLaunch


@dataclass(frozen=True)
class Step:
    """What a scripted trial does next: after duration_ms it reports metrics, or raises error."""

    metrics: Mapping[str, Any] = field(default_factory=dict)
    duration_ms: int = 1000
    has_checkpoint: bool = False
    error: BaseException | None = None
    is_lost: bool = False


Script = Callable[[TrialLaunch], Iterator[Step]]


class VirtualClock:
    """A clock that stands still until it is moved."""

    def __init__(self) -> None:
        self.ms = 0

    def now_ms(self) -> int:
        return self.ms


@dataclass
class _Attempt:
    launch: TrialLaunch
    steps: Iterator[Step]
    next_checkpoint: int
    reports: int = 0


class FakeTrialExecutor:
    """Runs scripts instead of trials (`TrialExecutor`). start_ms: how long a trial's process takes to come up.

    saves: whether trials save when they are paused or told to, as class trainables do.
    """

    def __init__(
        self,
        script: Script,
        clock: VirtualClock,
        total: Mapping[str, float] | None = None,
        start_ms: int = 10,
        saves: bool = False,
    ) -> None:
        self.launches: list[TrialLaunch] = []
        self.live_max = 0
        self.is_shut_down = False
        self._script = script
        self._clock = clock
        self._total = dict(total or {"CPU": 2.0})
        self._start_ms = start_ms
        self._saves = saves
        self._attempts: dict[str, _Attempt] = {}
        self._agenda: list[tuple[int, int, TrialEvent]] = []
        self._order = itertools.count()

    def total_resources(self) -> Mapping[str, float]:
        return self._total

    def check_feasible(self, resources: Resources) -> None:
        missing = shortfall(self._total, as_request(resources).required_resources)
        if missing:
            raise TuneError(f"One trial asks for {missing} (asked, there is).")

    def has_room(self, resources: Resources) -> bool:
        held = [attempt.launch.resources for attempt in self._attempts.values()]
        return fits(self._total, held, as_request(resources).required_resources)

    def launch(self, launch: TrialLaunch) -> None:
        assert launch.trial_id not in self._attempts, f"{launch.trial_id} is live already"
        assert self.has_room(launch.resources), f"{launch.trial_id} was launched without room"
        self.launches.append(launch)
        self._attempts[launch.trial_id] = _Attempt(launch, self._script(launch), launch.next_checkpoint)
        self.live_max = max(self.live_max, len(self._attempts))
        self._at(self._start_ms, TrialStarted(launch.trial_id, launch.attempt, {"pid": 1}))

    def answer(self, trial_id: str, verdict: str) -> None:
        attempt = self._attempts[trial_id]
        if verdict == CONTINUE:
            self._schedule_next(attempt)
            return
        name = self._checkpoint(attempt) if self._saves and verdict in (PAUSE, SAVE) else None
        event = TrialSaved if verdict == SAVE else TrialReleased
        self._at(1, event(trial_id, attempt.launch.attempt, name))

    def kill(self, trial_id: str) -> None:
        if self._attempts.pop(trial_id, None) is not None:
            self._agenda = [entry for entry in self._agenda if entry[2].trial_id != trial_id]
            heapq.heapify(self._agenda)

    def is_busy(self) -> bool:
        return bool(self._attempts)

    def events(self, timeout_ms: int) -> list[TrialEvent]:
        """Move the clock to the next event, or by timeout_ms if nothing comes before."""
        if not self._agenda or self._agenda[0][0] > self._clock.ms + timeout_ms:
            self._clock.ms += timeout_ms
            return []
        self._clock.ms, _, event = heapq.heappop(self._agenda)
        if isinstance(event, TrialStarted):
            self._schedule_next(self._attempts[event.trial_id])
        elif not isinstance(event, (TrialReported, TrialSaved)):
            del self._attempts[event.trial_id]
        return [event]

    def shutdown(self) -> None:
        self._attempts.clear()
        self._agenda.clear()
        self.is_shut_down = True

    def _schedule_next(self, attempt: _Attempt) -> None:
        trial_id, number = attempt.launch.trial_id, attempt.launch.attempt
        step = next(attempt.steps, None)
        if step is None:
            self._at(0, TrialFinished(trial_id, number))
        elif step.error is not None:
            self._at(
                step.duration_ms, TrialFailed(trial_id, number, step.error, f"traceback: {step.error}", step.is_lost)
            )
        else:
            attempt.reports += 1
            name = None
            if step.has_checkpoint:
                name = self._checkpoint(attempt)
            iteration = attempt.launch.iteration + attempt.reports
            metrics = {"training_iteration": iteration, "time_total_s": float(iteration), **step.metrics}
            self._at(step.duration_ms, TrialReported(trial_id, number, metrics, name))

    @staticmethod
    def _checkpoint(attempt: _Attempt) -> str:
        attempt.next_checkpoint += 1
        return f"checkpoint_{attempt.next_checkpoint - 1:06d}"

    def _at(self, delay_ms: int, event: TrialEvent) -> None:
        heapq.heappush(self._agenda, (self._clock.ms + delay_ms, next(self._order), event))


class MemoryTrialFiles:
    """Folders that exist in name only (`controller.TrialFiles`). deleted: (trial id, checkpoint) in order."""

    def __init__(self) -> None:
        self.deleted: list[tuple[str, str]] = []
        self.copied: list[tuple[str, str, str, str]] = []
        self.texts: dict[str, str] = {}

    def create(self, trial: Any) -> str:
        return f"memory/{trial.trial_id}"

    def checkpoint_path(self, trial: Any, name: str) -> str:
        return f"{trial.folder}/{name}"

    def delete_checkpoint(self, trial: Any, name: str) -> None:
        self.deleted.append((trial.trial_id, name))

    def copy_checkpoint(self, source: Any, source_name: str, target: Any, target_name: str) -> None:
        self.copied.append((source.trial_id, source_name, target.trial_id, target_name))

    def write_file(self, name: str, text: str) -> None:
        self.texts[name] = text
