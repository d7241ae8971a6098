"""Trial executor: the seam between the controller, which decides, and whatever runs trials.

The controller calls these few methods and reads events; it never sees an actor, a process or a thread. The real one
is `actor_executor`; tests use one in virtual time. Both pass tests/libs/test_executor_contract.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

import msgspec

from raybook.tune.core.resource_request import ResourceRequest, as_request
from raybook.tune.core.trial_events import TrialEvent

Resources = Mapping[str, float] | ResourceRequest


class TrialLaunch(msgspec.Struct, frozen=True):
    """All that one attempt of a trial needs to run.

    checkpoint: folder to go on from, None for a fresh start. next_checkpoint: number of the next one to be saved.
    storage: where checkpoints go if not into the folder. log_files: names for stdout and stderr.
    changes_folder: work in the trial's folder.
    iteration, time_total_s: what that checkpoint had reached; reports count on from there.
    """

    trial_id: str
    attempt: int
    name: str
    experiment_name: str
    config: dict[str, Any]
    resources: dict[str, float]
    folder: str
    storage_path: str = ""
    checkpoint: str | None = None
    next_checkpoint: int = 0
    iteration: int = 0
    time_total_s: float = 0.0
    checkpoint_frequency: int = 0
    checkpoint_at_end: bool = False
    request: ResourceRequest | None = None
    log_files: tuple[str, str] | None = None
    changes_folder: bool = False
    storage: Any = None

    @property
    def wanted(self) -> ResourceRequest:
        """What the attempt holds, bundle by bundle."""
        return self.request if self.request is not None else as_request(self.resources)


class TrialExecutor(Protocol):
    """Runs attempts of trials and tells what becomes of them."""

    def total_resources(self) -> Mapping[str, float]:
        """Return what the whole cluster has."""

    def check_feasible(self, resources: Resources) -> None:
        """Raise TuneError, naming what is asked and what there is, if resources could never be met."""

    def has_room(self, resources: Resources) -> bool:
        """Ask whether one more trial of this size may be launched now."""

    def launch(self, launch: TrialLaunch) -> None:
        """Start an attempt. TrialStarted follows, or TrialFailed."""

    def answer(self, trial_id: str, verdict: str) -> None:
        """Answer the report that the trial waits with. SAVE is followed by TrialSaved, which wants an answer again;
        anything else but CONTINUE by TrialReleased."""

    def kill(self, trial_id: str) -> None:
        """End an attempt at once. No event of it follows, and its room is free."""

    def is_busy(self) -> bool:
        """Ask whether any attempt is still under way, those that obey a verdict included."""

    def events(self, timeout_ms: int) -> list[TrialEvent]:
        """Return what happened, waiting up to timeout_ms for a first event. [] after the time-out."""

    def shutdown(self) -> None:
        """End everything that is left. May be called twice."""
