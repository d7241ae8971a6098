"""Steering: carries out what schedulers order and users ask for while a sweep runs.

Decides only when an order can be carried out: an exploit once its trial is paused and its source is not saving; a
user's stop or pause at the trial's next report. Does not launch trials: the controller does, and asks which are held.
Invariants: a trial with an exploit ahead is not launched before; a request for a trial that is unknown or over changes
nothing and says so; requests may come from any thread, and are served between two rounds.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from raybook.tune.core import trial_table as states
from raybook.tune.core.orders import Exploit, Order, Resize, WriteFile
from raybook.tune.core.scheduler import TrialScheduler
from raybook.tune.core.trial_events import PAUSE, STOP, YIELD
from raybook.tune.core.trial_table import Trial, TrialTable

STOP_TRIAL = "stop"
PAUSE_TRIAL = "pause"
RESUME_TRIAL = "resume"
CLONE_TRIAL = "clone"
STOP_SWEEP = "stop_all"
ACTIONS = (STOP_TRIAL, PAUSE_TRIAL, RESUME_TRIAL, CLONE_TRIAL, STOP_SWEEP)

# A trial that is asked to stop and does not report for so long is ended with its process.
STOP_GRACE_MS = 5_000


@dataclass(frozen=True)
class TrialRequest:
    """What a user asks for. changes: for a clone, the parameters that differ ('a/b' reaches into nested ones)."""

    action: str
    trial_id: str = ""
    changes: Mapping[str, Any] | None = None


class SteeredSweep(Protocol):
    """What steering needs of the controller."""

    table: TrialTable

    def now_ms(self) -> int:
        """Return the controller's time."""

    def end_waiting(self, trial: Trial, note: str) -> None:
        """End a trial that is not live as stopped."""

    def end_live(self, trial: Trial, note: str) -> None:
        """End a live trial as stopped, with its process."""

    def copy_checkpoint(self, source: Trial, target: Trial) -> None:
        """Make source's latest checkpoint the latest of target."""

    def reconfigure(self, trial: Trial, config: dict[str, Any]) -> None:
        """Give a trial that is not live another configuration."""

    def resize(self, trial: Trial, request: Any) -> None:
        """Give a trial other resources from its next launch on."""

    def write_file(self, name: str, text: str) -> None:
        """Keep a text in the run's folder."""

    def clone(self, trial: Trial, changes: Mapping[str, Any]) -> None:
        """Add a trial with the configuration of another one, changed."""

    def request_stop(self, reason: str) -> None:
        """End the sweep."""


class Steering:
    """Orders and requests of one sweep."""

    def __init__(self, sweep: SteeredSweep, scheduler: TrialScheduler) -> None:
        self._sweep = sweep
        self._scheduler = scheduler
        self._exploits: dict[str, Exploit] = {}
        self._held: set[str] = set()
        self._asked: dict[str, str] = {}
        self._stop_by_ms: dict[str, int] = {}
        # deque.append is atomic: other threads need no lock.
        self._requests: deque[TrialRequest] = deque()

    def submit(self, request: TrialRequest) -> None:
        """Take a request; it is served at the controller's next round. Safe from any thread."""
        if request.action not in ACTIONS:
            raise ValueError(f"A trial can be asked to {', '.join(ACTIONS)}, not to {request.action!r}.")
        self._requests.append(request)

    def may_launch(self, trial_id: str) -> bool:
        """Ask whether nothing keeps a waiting trial from being launched."""
        return trial_id not in self._held and trial_id not in self._exploits

    def has_held(self) -> bool:
        """Ask whether a user has paused trials, so that the sweep may wait for him."""
        return bool(self._held)

    def verdict_for(self, trial_id: str) -> str | None:
        """Return what a user wants of a trial that reports now, if anything."""
        self._stop_by_ms.pop(trial_id, None)
        return self._asked.pop(trial_id, None)

    def order(self, order: Order) -> None:
        """Carry out one order."""
        self._obey(order)

    def pause(self, trial_id: str, saves: bool = True) -> None:
        """Pause a trial at its next report, until the scheduler chooses it again. saves: with a checkpoint."""
        if self._sweep.table.get(trial_id).is_live:
            self._asked[trial_id] = PAUSE if saves else YIELD

    def stop_sweep(self, reason: str) -> None:
        """End the sweep at its next round."""
        self._sweep.request_stop(reason)

    def obey(self) -> None:
        """Carry out all orders of the scheduler, and exploits that have become possible."""
        while orders := self._scheduler.take_orders():
            for order in orders:
                self._obey(order)
        for trial_id in list(self._exploits):
            self._try_exploit(self._exploits[trial_id])

    def serve(self) -> None:
        """Serve the requests that have come in, and end who was asked to stop and does not listen."""
        while self._requests:
            self._serve(self._requests.popleft())
        if self._stop_by_ms:
            now = self._sweep.now_ms()
            for trial_id in [trial_id for trial_id, by_ms in self._stop_by_ms.items() if by_ms <= now]:
                self._forget(trial_id)
                self._sweep.end_live(self._sweep.table.get(trial_id), "stopped on request; it did not report")

    def forget(self, trial: Trial) -> None:
        """A trial is over: nothing is wanted of it any more."""
        self._forget(trial.trial_id)

    def _forget(self, trial_id: str) -> None:
        self._held.discard(trial_id)
        self._exploits.pop(trial_id, None)
        self._asked.pop(trial_id, None)
        self._stop_by_ms.pop(trial_id, None)

    def _obey(self, order: Order) -> None:
        if isinstance(order, WriteFile):
            self._sweep.write_file(order.name, order.text)
            return
        trial = self._sweep.table.get(order.trial_id)
        if trial.is_terminal:
            return
        if isinstance(order, Exploit):
            self._exploits[trial.trial_id] = order
        elif isinstance(order, Resize):
            self._sweep.resize(trial, order.request)
        elif trial.state in (states.PENDING, states.PAUSED, states.PAUSING):
            self._sweep.end_waiting(trial, order.note)
        else:
            self._asked[trial.trial_id] = STOP

    def _try_exploit(self, order: Exploit) -> None:
        target = self._sweep.table.get(order.trial_id)
        if target.is_terminal:
            del self._exploits[order.trial_id]
            return
        if target.state not in (states.PAUSED, states.PENDING):
            return
        source = self._sweep.table.get(order.source) if order.source is not None else None
        if source is not None and source.state == states.PAUSING:
            return  # It saves what shall be taken over.
        del self._exploits[order.trial_id]
        if source is not None:
            if source.checkpoints.latest() is None:
                target.story.append((self._sweep.now_ms(), f"nothing to take over: {source.trial_id} saved nothing"))
                return
            self._sweep.copy_checkpoint(source, target)
        target.story.append((self._sweep.now_ms(), order.note or "new configuration"))
        self._sweep.reconfigure(target, order.config)

    def _serve(self, request: TrialRequest) -> None:
        if request.action == STOP_SWEEP:
            self._sweep.request_stop("stopped on request")
            return
        try:
            trial = self._sweep.table.get(request.trial_id)
        except KeyError:
            return  # Somebody looked at a panel of another run.
        if request.action == CLONE_TRIAL:
            self._sweep.clone(trial, request.changes or {})
        elif not trial.is_terminal:
            self._serve_for(trial, request.action)

    def _serve_for(self, trial: Trial, action: str) -> None:
        waits = trial.state in (states.PENDING, states.PAUSED)
        if action == RESUME_TRIAL:
            self._held.discard(trial.trial_id)
            self._asked.pop(trial.trial_id, None)
        elif action == PAUSE_TRIAL:
            self._held.add(trial.trial_id)
            if not waits:
                self._asked[trial.trial_id] = PAUSE
        elif waits:
            self._sweep.end_waiting(trial, "stopped on request")
        elif trial.state == states.STARTING:
            self._sweep.end_live(trial, "stopped on request")
        else:
            self._asked[trial.trial_id] = STOP
            self._stop_by_ms[trial.trial_id] = self._sweep.now_ms() + STOP_GRACE_MS
