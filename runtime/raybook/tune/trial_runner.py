"""Trial runner: runs one attempt of a trial on a thread of its own and turns its end into an event.

Knows functions and class trainables; the session knows reports. Does not know actors.
Invariants: exactly one closing event (finished, failed or released) leaves a runner; whatever user code raises becomes
that event and never only a message on stderr.
"""

from __future__ import annotations

import contextlib
import pickle
import queue
import tempfile
import threading
import traceback
from pathlib import Path
from typing import Any

import cloudpickle

from raybook.ml.checkpoint import Checkpoint
from raybook.ml.session import enter_session
from raybook.tune.core.trial_events import CONTINUE, PAUSE, TrialEvent, TrialFailed, TrialFinished, TrialReleased
from raybook.tune.error import TrialError, TrialTraceback
from raybook.tune.executor import TrialLaunch
from raybook.tune.trainable import Trainable
from raybook.tune.trainable_spec import TrainableSpec
from raybook.tune.trial_session import TrialEnded, TrialSession

# What a bare number returned by a function is called, as in Ray.
DEFAULT_METRIC = "_metric"
DICT_CHECKPOINT_FILE = "dict_checkpoint.pkl"
# How long a function may take to end after a verdict before its process is given up.
END_GRACE_S = 10.0


class TrialRunner:
    """One attempt under way."""

    def __init__(self, launch: TrialLaunch, spec: TrainableSpec) -> None:
        self._launch = launch
        self._spec = spec
        self._session = TrialSession(launch)
        self._thread = threading.Thread(target=self._run, name=f"trial-{launch.trial_id}", daemon=True)

    def start(self) -> None:
        """Start the user's function."""
        self._thread.start()

    def next_event(self, verdict: str | None) -> TrialEvent | None:
        """Hand in the verdict on the last report, if there is one, and wait for the next event.

        Returns None if the function has not ended END_GRACE_S after a verdict to end: its process must be killed.
        """
        if verdict is not None:
            self._session.verdicts.put(verdict)
        if verdict in (None, CONTINUE):
            return self._session.events.get()
        try:
            return self._session.events.get(timeout=END_GRACE_S)
        except queue.Empty:
            return None

    def _run(self) -> None:
        trial_id, attempt = self._launch.trial_id, self._launch.attempt
        enter_session(self._session)
        closing: TrialEvent
        try:
            if self._spec.is_class:
                checkpoint = self._run_class()
            else:
                self._run_function()
                checkpoint = None
            closing = TrialFinished(trial_id, attempt, checkpoint)
        except TrialEnded as ended:
            closing = TrialReleased(trial_id, attempt, ended.checkpoint)
        except BaseException as error:  # noqa: BLE001 - the edge of user code: whatever it raises becomes the event.
            closing = TrialFailed(trial_id, attempt, *portable_error(error))
        self._session.events.put(closing)

    def _run_function(self) -> None:
        returned = self._spec.target(self._launch.config, **self._spec.resolve_parameters())
        if returned is None:
            return
        metrics = returned if isinstance(returned, dict) else {DEFAULT_METRIC: returned}
        with contextlib.suppress(TrialEnded):  # It has ended by itself.
            self._session.report(metrics)

    def _run_class(self) -> str | None:
        trainable = self._make_trainable()
        try:
            self._restore(trainable)
            return self._step_until_ended(trainable)
        finally:
            trainable.stop()

    def _make_trainable(self) -> Trainable:
        parameters = self._spec.resolve_parameters()
        cls: Any = self._spec.target
        if parameters:
            user_setup = cls.setup
            cls = type(cls.__name__, (cls,), {"setup": lambda self, config: user_setup(self, config, **parameters)})
        return cls(
            self._launch.config,
            trial_id=self._launch.trial_id,
            trial_name=self._launch.name,
            logdir=self._launch.folder,
            trial_resources=self._launch.resources,
        )

    def _restore(self, trainable: Trainable) -> None:
        checkpoint = self._session.get_checkpoint()
        if checkpoint is None:
            return
        with checkpoint.as_directory() as folder:
            saved = Path(folder) / DICT_CHECKPOINT_FILE
            trainable.load_checkpoint(pickle.loads(saved.read_bytes()) if saved.exists() else folder)
        trainable._iteration = self._launch.iteration

    def _step_until_ended(self, trainable: Trainable) -> str | None:
        """Step and report until told to end, or until a result says it is done; return a closing checkpoint's name."""
        frequency = self._launch.checkpoint_frequency
        is_due = False
        try:
            while True:
                result = trainable.train()
                is_due = frequency > 0 and trainable.iteration % frequency == 0
                with tempfile.TemporaryDirectory(prefix="trial_") as folder:
                    self._session.report(result, self._save(trainable, folder) if is_due else None)
        except TrialEnded as ended:
            if (ended.verdict == PAUSE or self._launch.checkpoint_at_end) and not is_due:
                with tempfile.TemporaryDirectory(prefix="trial_") as folder:
                    ended.checkpoint = self._session.persist(self._save(trainable, folder))
            raise

    @staticmethod
    def _save(trainable: Trainable, folder: str) -> Checkpoint:
        state = trainable.save_checkpoint(folder)
        if isinstance(state, dict):
            (Path(folder) / DICT_CHECKPOINT_FILE).write_bytes(cloudpickle.dumps(state))
        return Checkpoint(folder)


def portable_error(error: BaseException) -> tuple[BaseException, str]:
    """Return the error in a form that survives a trip to the driver, and its traceback from the user's frame on.

    An error that cannot be pickled both ways becomes a TrialError with the same text.
    """
    frames = error.__traceback__
    while frames is not None and frames.tb_frame.f_globals.get("__name__", "").startswith("raybook."):
        frames = frames.tb_next
    # Without any frame of the user's (a wrong report, say) the whole traceback is shown.
    text = "".join(traceback.format_exception(type(error), error, frames or error.__traceback__))
    try:
        pickle.loads(cloudpickle.dumps(error))
    except Exception:  # noqa: BLE001 - pickling runs the user's own __reduce__ and __init__, which may raise anything.
        error = TrialError(f"{type(error).__name__}: {error}")
    return error, text


def with_remote_traceback(error: BaseException, details: str) -> BaseException:
    """Return the error with the text of its remote traceback as its cause, so that a raise shows where it arose."""
    if error.__cause__ is None and details:
        error.__cause__ = TrialTraceback(details)
    return error
