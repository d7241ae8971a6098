"""Trial session: the user's side of one attempt of a trial, inside the trial's process.

Takes reports from the thread that runs the user's function, saves their checkpoints, adds the automatic metrics, and
blocks until the verdict has come; a verdict other than CONTINUE ends the thread by an exception out of `report`.
Does not know how reports leave the process.
Invariants: one report is out at a time; a checkpoint folder is complete before its report leaves; after the verdict to
end, every further report ends the thread again.
"""

from __future__ import annotations

import os
import queue
import socket
import threading
import time
from collections.abc import Callable, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from raybook.ml.checkpoint import Checkpoint
from raybook.ml.session import RunContext
from raybook.ml.storage import persist_folder
from raybook.tune.context import TuneContext
from raybook.tune.core.trial_events import CONTINUE, SAVE, TrialEvent, TrialReported, TrialSaved
from raybook.tune.executor import TrialLaunch


class TrialEnded(BaseException):
    """Ends the user's function from inside `report`. Not an Exception, so that `except Exception` lets it pass."""

    def __init__(self, verdict: str) -> None:
        super().__init__(f"The trial was ended by its scheduler ({verdict}).")
        self.verdict = verdict
        self.checkpoint: str | None = None
        """Name of a checkpoint that was saved on the way out."""


class TrialSession:
    """One attempt of one trial as user code sees it (`raybook.ml.session.Session`)."""

    def __init__(self, launch: TrialLaunch) -> None:
        self.context: RunContext = TuneContext(
            launch.wanted,
            experiment_name=launch.experiment_name,
            trial_id=launch.trial_id,
            trial_name=launch.name,
            trial_dir=launch.folder,
            storage_path=launch.storage_path,
        )
        # To the actor's thread and back. SimpleQueue: no lock of Python's own is held while user code runs.
        self.events: queue.SimpleQueue[TrialEvent] = queue.SimpleQueue()
        self.verdicts: queue.SimpleQueue[str] = queue.SimpleQueue()
        self._launch = launch
        self._checkpoint = self._checkpoint_at(Path(launch.checkpoint).name) if launch.checkpoint else None
        self._next_checkpoint = launch.next_checkpoint
        self._reports = 0
        self._started_s = self._reported_s = time.monotonic()
        self._verdict = CONTINUE
        # The user may report from several threads.
        self._one_at_a_time = threading.Lock()
        # How to save when the scheduler asks for it; None for functions, which save when they report.
        self.save_now: Callable[[], str] | None = None

    @property
    def trial_id(self) -> str:
        """The trial's id."""
        return self._launch.trial_id

    @property
    def attempt(self) -> int:
        """The number of this attempt."""
        return self._launch.attempt

    @property
    def iteration(self) -> int:
        """The iteration reported last, counted over all attempts."""
        return self._launch.iteration + self._reports

    def get_checkpoint(self) -> Checkpoint | None:
        """Return the last checkpoint of this trial: reported in this attempt, or what it goes on from."""
        return self._checkpoint

    def report(self, metrics: Mapping[str, Any], checkpoint: Checkpoint | None = None) -> None:
        """Hand over one result and wait for the verdict. Raises TypeError for another shape, TrialEnded to end."""
        with self._one_at_a_time:
            if self._verdict != CONTINUE:
                raise TrialEnded(self._verdict)
            plain = plain_metrics(metrics)
            if checkpoint is not None and not isinstance(checkpoint, Checkpoint):
                raise TypeError(f"report(checkpoint=...) takes a Checkpoint, not {checkpoint!r}.")
            self._report(plain, checkpoint)

    def _report(self, plain: dict[str, Any], checkpoint: Checkpoint | None) -> None:
        name = self.persist(checkpoint) if checkpoint is not None else None
        self._reports += 1
        self.events.put(
            TrialReported(self._launch.trial_id, self._launch.attempt, self._with_automatic(plain, name), name)
        )
        self._verdict = self.verdicts.get()
        if self._verdict == SAVE:
            saved = self.save_now() if self.save_now is not None else None
            self.events.put(TrialSaved(self._launch.trial_id, self._launch.attempt, saved))
            self._verdict = self.verdicts.get()
        if self._verdict != CONTINUE:
            raise TrialEnded(self._verdict)
        self._reported_s = time.monotonic()

    def persist(self, checkpoint: Checkpoint) -> str:
        """Copy a checkpoint into the trial's folder, whole or not at all; return its name there."""
        name = f"checkpoint_{self._next_checkpoint:06d}"
        storage = self._launch.storage
        if storage is not None:
            storage.persist_current_checkpoint(checkpoint, self._stored_name(name))
        else:
            with checkpoint.as_directory() as source:
                persist_folder(source, Path(self._launch.folder) / name)
        self._next_checkpoint += 1
        self._checkpoint = self._checkpoint_at(name)
        return name

    def _checkpoint_at(self, name: str) -> Checkpoint:
        storage = self._launch.storage
        return storage.checkpoint(self._stored_name(name)) if storage else Checkpoint(Path(self._launch.folder) / name)

    def _stored_name(self, name: str) -> str:
        return f"{Path(self._launch.folder).name}/{name}"

    def _with_automatic(self, metrics: dict[str, Any], checkpoint: str | None) -> dict[str, Any]:
        now_s = time.monotonic()
        wall = datetime.now()
        since_start_s = now_s - self._started_s
        return {
            **metrics,
            # A user may count iterations in steps of his own.
            "training_iteration": metrics.get("training_iteration", self.iteration),
            "trial_id": self._launch.trial_id,
            "time_this_iter_s": now_s - self._reported_s,
            "time_since_restore": since_start_s,
            "time_total_s": self._launch.time_total_s + since_start_s,
            "iterations_since_restore": self._reports,
            "timestamp": int(wall.timestamp()),
            "date": wall.strftime("%Y-%m-%d_%H-%M-%S"),
            "pid": os.getpid(),
            "hostname": socket.gethostname(),
            "checkpoint_dir_name": checkpoint,
        }


def plain_metrics(metrics: object) -> dict[str, Any]:
    """Return metrics as a plain dict: scalars of numpy or torch become numbers. Raises TypeError for another shape."""
    if not isinstance(metrics, Mapping):
        raise TypeError(f"report() takes a dict of metrics, such as {{'loss': 0.1}}, not {metrics!r}.")
    plain: dict[str, Any] = {}
    for name, value in metrics.items():
        if not isinstance(name, str):
            raise TypeError(f"Metric names are strings, and {name!r} is not.")
        if isinstance(value, Mapping):
            plain[name] = plain_metrics(value)
        elif getattr(value, "ndim", None) == 0 and hasattr(value, "item"):
            plain[name] = value.item()
        else:
            plain[name] = value
    return plain
