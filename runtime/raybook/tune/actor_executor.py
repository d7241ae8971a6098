"""Actor executor: runs trials as actors of the cluster.

One actor a trial, placed by the trial's resources; with reuse_actors an actor whose trial has ended takes another one
of the same size. One call is out to each actor at any time, and the driver waits on all of them together. Decides only
how many trials may be out: as many as the whole cluster could hold beside each other. The rest is the runtime's: a
trial whose room is taken by other work waits there.
Invariants: an attempt has exactly one actor and one call out; no actor outlives `shutdown`.
"""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from raybook import api
from raybook.exceptions import RayError
from raybook.tune.core.capacity import fits, shortfall
from raybook.tune.core.resource_request import ResourceRequest, as_request
from raybook.tune.core.trial_events import (
    TrialEvent,
    TrialFailed,
    TrialReleased,
    TrialReported,
    TrialSaved,
    TrialStarted,
)
from raybook.tune.error import TuneError
from raybook.tune.executor import Resources, TrialLaunch
from raybook.tune.trainable_spec import TrainableSpec
from raybook.tune.trial_actor import TrialActor

TOTAL_AGE_S = 0.5
CLOSE_TIMEOUT_S = 5.0


@dataclass(frozen=True)
class Seat:
    """An actor with what it holds. group: its placement group, None if one bundle is all it has."""

    request: ResourceRequest
    actor: Any
    group: Any = None

    def leave(self) -> None:
        """End the process and give everything back."""
        api.kill(self.actor)
        if self.group is not None:
            api.remove_placement_group(self.group)


@dataclass
class Attempt:
    """One attempt under way: its actor and the one call that is out. reference: None while a verdict is awaited."""

    launch: TrialLaunch
    seat: Seat
    reference: Any
    has_started: bool = False


class ActorTrialExecutor:
    """The `TrialExecutor` of real sweeps. Needs a running cluster (it starts one if there is none)."""

    def __init__(self, spec: TrainableSpec, reuse_actors: bool = False) -> None:
        self._spec_reference = api.put(spec)
        self._actor_class = api.remote(TrialActor)
        self._reuse_actors = reuse_actors
        # Only class trainables have something to clean up after their last trial.
        self._closes = reuse_actors and spec.is_class
        self._classes: dict[ResourceRequest, Any] = {}
        self._attempts: dict[str, Attempt] = {}
        self._idle: list[Seat] = []
        self._total: tuple[float, Mapping[str, float]] = (-math.inf, {})

    def total_resources(self) -> Mapping[str, float]:
        """Return what the cluster has, at most TOTAL_AGE_S old: it is asked for at every launch and result."""
        asked_s, total = self._total
        if time.monotonic() - asked_s > TOTAL_AGE_S:
            total = api.cluster_resources()
            self._total = (time.monotonic(), total)
        return total

    def check_feasible(self, resources: Resources) -> None:
        """Raise TuneError if one trial asks for more than the whole cluster has."""
        missing = shortfall(self.total_resources(), as_request(resources).required_resources)
        if not missing:
            return
        parts = ", ".join(f"{asked:g} {name} (the cluster has {there:g})" for name, (asked, there) in missing.items())
        raise TuneError(
            f"One trial asks for {parts}, so it could never start. Ask for less in tune.with_resources(), or start "
            "the cluster with more."
        )

    def has_room(self, resources: Resources) -> bool:
        """Ask whether the cluster, empty but for this sweep's trials, could hold one more of this size."""
        total = self.total_resources()
        wanted = as_request(resources).required_resources
        if not wanted:  # A trial that asks for nothing fits always; some bound must hold.
            return len(self._attempts) < max(1, int(4 * total.get("CPU", 1)))
        return fits(total, [attempt.launch.resources for attempt in self._attempts.values()], wanted)

    def launch(self, launch: TrialLaunch) -> None:
        """Start an attempt on an idle actor of its size, or on a new one."""
        seat = self._take_idle(launch.wanted) or self._take_seat(launch.wanted)
        reference = seat.actor.load.remote(launch, self._spec_reference)
        self._attempts[launch.trial_id] = Attempt(launch, seat, reference)

    def answer(self, trial_id: str, verdict: str) -> None:
        """Answer the report that the trial waits with."""
        attempt = self._attempts[trial_id]
        attempt.reference = attempt.seat.actor.next_event.remote(verdict)

    def kill(self, trial_id: str) -> None:
        """End an attempt with its process."""
        attempt = self._attempts.pop(trial_id, None)
        if attempt is not None:
            attempt.seat.leave()

    def is_busy(self) -> bool:
        """Ask whether any attempt is under way."""
        return bool(self._attempts)

    def events(self, timeout_ms: int) -> list[TrialEvent]:
        """Wait for the first answer of any actor, then take all that are there. Cost: two waits, one get an event."""
        by_reference = {a.reference: a for a in self._attempts.values() if a.reference is not None}
        if not by_reference:  # Only while a trial waits for a cluster that has shrunk below its size.
            time.sleep(timeout_ms / 1000)
            return []
        references = list(by_reference)
        ready, _ = api.wait(references, num_returns=1, timeout=timeout_ms / 1000)
        if ready and len(references) > 1:
            ready, _ = api.wait(references, num_returns=len(references), timeout=0)
        events = (self._take(by_reference[reference], reference) for reference in ready)
        return [event for event in events if event is not None]

    def shutdown(self) -> None:
        """Kill every actor that is left."""
        for trial_id in list(self._attempts):
            self.kill(trial_id)
        self._close_idle()

    def _close_idle(self) -> None:
        if self._closes and self._idle:
            with contextlib.suppress(RayError):  # Who does not clean up in time has had its chance.
                api.get([seat.actor.close.remote() for seat in self._idle], timeout=CLOSE_TIMEOUT_S)
        for seat in self._idle:
            seat.leave()
        self._idle.clear()

    def _take(self, attempt: Attempt, reference: Any) -> TrialEvent | None:
        launch = attempt.launch
        attempt.reference = None
        try:
            answer = api.get(reference)
        except RayError as error:
            # Not the user's function, whose errors arrive as events: the process died or could not load the trainable.
            self.kill(launch.trial_id)
            return TrialFailed(launch.trial_id, launch.attempt, error, str(error), is_lost=True)
        if not attempt.has_started:
            attempt.has_started = True
            attempt.reference = attempt.seat.actor.next_event.remote()
            return TrialStarted(launch.trial_id, launch.attempt, answer)
        if isinstance(answer, (TrialReported, TrialSaved)):
            return answer
        if answer is None:  # The function goes on after it was told to end.
            self.kill(launch.trial_id)
            return TrialReleased(launch.trial_id, launch.attempt)
        self._retire(attempt, is_clean=not isinstance(answer, TrialFailed))
        return answer

    def _retire(self, attempt: Attempt, is_clean: bool) -> None:
        del self._attempts[attempt.launch.trial_id]
        if self._reuse_actors and is_clean:
            self._idle.append(attempt.seat)
        else:
            attempt.seat.leave()

    def _take_idle(self, wanted: ResourceRequest) -> Seat | None:
        for position, seat in enumerate(self._idle):
            if seat.request == wanted:
                del self._idle[position]
                return seat
        # Idle actors of another size hold room that the new trial may need.
        self._close_idle()
        return None

    def _take_seat(self, wanted: ResourceRequest) -> Seat:
        options = _actor_options(wanted.head)
        if wanted.needs_group:
            group = api.placement_group(wanted.bundles, strategy=wanted.strategy)
            # What the trial starts runs in its group, unless it says otherwise.
            options["scheduling_strategy"] = api.PlacementGroupSchedulingStrategy(
                group, 0, placement_group_capture_child_tasks=True
            )
            return Seat(wanted, self._actor_class.options(**options).remote(self._reuse_actors), group)
        if wanted not in self._classes:
            # Checking options takes a few milliseconds, as long as starting the process: once for each size of trial.
            self._classes[wanted] = self._actor_class.options(**options)
        return Seat(wanted, self._classes[wanted].remote(self._reuse_actors))


def _actor_options(resources: Mapping[str, float]) -> dict[str, Any]:
    """Return the actor options for a trial's resources. An explicit num_cpus is held for the actor's whole life."""
    named = {"CPU": "num_cpus", "GPU": "num_gpus", "memory": "memory"}
    options: dict[str, Any] = {"num_cpus": 0}
    custom: dict[str, float] = {}
    for name, amount in resources.items():
        if name in named:
            options[named[name]] = int(amount) if name == "memory" else amount
        else:
            custom[name] = amount
    if custom:
        options["resources"] = custom
    return options
