"""Trial actor: the process in which trials run, one at a time.

A thin shell: it takes an assignment, and hands events of its runner to whoever asks. Decides nothing.
"""

from __future__ import annotations

import os
import socket
from typing import Any

from raybook.tune.core.trial_events import TrialEvent
from raybook.tune.executor import TrialLaunch
from raybook.tune.trainable_spec import TrainableSpec
from raybook.tune.trial_runner import TrialRunner


class TrialActor:
    """Runs the trials it is given, one after the other."""

    def __init__(self, is_reused: bool = False) -> None:
        self._is_reused = is_reused
        self._runner: TrialRunner | None = None

    def load(self, launch: TrialLaunch, spec: TrainableSpec) -> dict[str, Any]:
        """Start one attempt; return where it runs."""
        spare = self._runner.trainable if self._runner is not None else None
        self._runner = TrialRunner(launch, spec, spare, keeps_trainable=self._is_reused)
        self._runner.start()
        return {"pid": os.getpid(), "hostname": socket.gethostname()}

    def next_event(self, verdict: str | None = None) -> TrialEvent | None:
        """Hand in a verdict, if any, and wait for the next event of the attempt; None if it does not end."""
        if self._runner is None:
            raise RuntimeError("next_event() was asked of a trial actor that has no trial yet.")
        return self._runner.next_event(verdict)

    def close(self) -> None:
        """Let a trainable that was kept for the next trial clean up."""
        if self._runner is not None and self._runner.trainable is not None:
            self._runner.trainable.stop()
