"""Steered runs: the sweeps that run in this process now, for whoever wants to stop, pause, resume or clone a trial.

Hands requests to the controllers they concern; decides nothing. A request comes as an order through the GCS, from a button
of a panel in another process (`api.on_order`, verbs "stop-trial", "pause-trial", "resume-trial", "clone-trial" and
"stop-experiment" with run_id, trial_id and, for a clone, config), or as a call from any thread of this one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

from raybook.api.orders import on_order
from raybook.tune.controller import TuneController
from raybook.tune.steering import CLONE_TRIAL, PAUSE_TRIAL, RESUME_TRIAL, STOP_SWEEP, STOP_TRIAL, TrialRequest

ACTION_OF_VERB = {
    "stop-trial": STOP_TRIAL,
    "pause-trial": PAUSE_TRIAL,
    "resume-trial": RESUME_TRIAL,
    "clone-trial": CLONE_TRIAL,
    "stop-experiment": STOP_SWEEP,
}


@dataclass(frozen=True)
class SteeredRun:
    """A sweep under way. run_id: the key of its facts."""

    run_id: str
    name: str
    controller: TuneController

    def answer(self, action: str, order: Mapping[str, Any]) -> dict[str, Any] | None:
        """Take an order that concerns this sweep; None if it concerns another one."""
        trial_id = str(order.get("trial_id", ""))
        if order.get("run_id") not in (self.run_id, self.name, None, ""):
            return None
        if trial_id and not self.controller.knows(trial_id):
            return None
        self.controller.request(TrialRequest(action, trial_id, order.get("config") or {}))
        return {"experiment": self.name, "trial_id": trial_id, "asked": action}


# The sweeps under way. A process has one or a few; a list, because two may share a name.
_running: list[SteeredRun] = []


@contextmanager
def steered(run_id: str, name: str, controller: TuneController) -> Iterator[None]:
    """Let requests reach a sweep for the time of a `with` block."""
    run = SteeredRun(run_id, name, controller)

    def handler(action: str) -> Callable[[dict[str, Any]], dict[str, Any] | None]:
        return lambda order: run.answer(action, order)

    with ExitStack() as stack:
        for verb, action in ACTION_OF_VERB.items():
            stack.callback(on_order(verb, handler(action)))
        _running.append(run)
        stack.callback(_running.remove, run)
        yield


def _ask(action: str, trial_id: str = "", name: str = "", changes: Mapping[str, Any] | None = None) -> bool:
    order = {"run_id": name, "trial_id": trial_id, "config": dict(changes or {})}
    return any([run.answer(action, order) is not None for run in list(_running)])


def stop_trial(trial_id: str) -> bool:
    """End a trial at its next report; one that does not report is ended after five seconds. Returns whether it runs here."""
    return _ask(STOP_TRIAL, trial_id)


def pause_trial(trial_id: str) -> bool:
    """Pause a trial at its next report, until resume_trial. It goes on from its last checkpoint."""
    return _ask(PAUSE_TRIAL, trial_id)


def resume_trial(trial_id: str) -> bool:
    """Let a paused trial go on once there is room."""
    return _ask(RESUME_TRIAL, trial_id)


def clone_trial(trial_id: str, changes: Mapping[str, Any] | None = None) -> bool:
    """Add a trial with the configuration of this one, with changes: {'lr': 0.1, 'net/width': 64}."""
    return _ask(CLONE_TRIAL, trial_id, changes=changes)


def stop_experiment(name: str = "") -> bool:
    """End a sweep, or all of this process; what they have reported is kept."""
    return _ask(STOP_SWEEP, name=name)
