"""Trial runner: runs one attempt of a trial on a thread of its own and turns its end into an event.

Knows functions and class trainables; the session knows reports. Does not know actors.
Invariants: exactly one closing event (finished, failed or released) leaves a runner; whatever user code raises becomes
that event and never only a message on stderr.
"""

from __future__ import annotations

import contextlib
import contextvars
import inspect
import os
import pickle
import queue
import tempfile
import threading
import traceback
from typing import Any

import cloudpickle

from raybook.ml.session import session_for_block
from raybook.tune.core.trial_events import (
    CONTINUE,
    PAUSE,
    SAVE,
    YIELD,
    TrialEvent,
    TrialFailed,
    TrialFinished,
    TrialReleased,
)
from raybook.tune.error import TrialError, TrialTraceback
from raybook.tune.executor import TrialLaunch
from raybook.tune.trainable import Trainable
from raybook.tune.trainable_spec import TrainableSpec
from raybook.tune.trial_output import in_folder, output_to_files
from raybook.tune.trial_session import TrialEnded, TrialSession

# What a bare number returned by a function is called, as in Ray.
DEFAULT_METRIC = "_metric"
# A class trainable that puts this into a result asks for a checkpoint now.
SHOULD_CHECKPOINT = "should_checkpoint"
# How long a function may take to end after a verdict before its process is given up.
END_GRACE_S = 10.0


class TrialRunner:
    """One attempt under way.

    spare: a trainable that has run another trial in this process, and may take this one by reset_config. keeps_trainable:
    leave the trainable open in the end, for the next trial.
    """

    def __init__(
        self,
        launch: TrialLaunch,
        spec: TrainableSpec,
        spare: Trainable | None = None,
        keeps_trainable: bool = False,
    ) -> None:
        self.trainable = spare
        self._launch = launch
        self._spec = spec
        self._keeps_trainable = keeps_trainable
        self._session = TrialSession(launch)
        # The function sees what the actor's call sees: its resources, and the group that its own tasks run in.
        context = contextvars.copy_context()
        self._thread = threading.Thread(
            target=context.run, args=(self._run,), name=f"trial-{launch.trial_id}", daemon=True
        )

    def start(self) -> None:
        """Start the user's function."""
        self._thread.start()

    def next_event(self, verdict: str | None) -> TrialEvent | None:
        """Hand in the verdict on the last report, if there is one, and wait for the next event.

        Returns None if the function has not ended END_GRACE_S after a verdict to end: its process must be killed.
        """
        if verdict is not None:
            self._session.verdicts.put(verdict)
        if verdict in (None, CONTINUE, SAVE):
            return self._session.events.get()
        try:
            return self._session.events.get(timeout=END_GRACE_S)
        except queue.Empty:
            return None

    def _run(self) -> None:
        trial_id, attempt = self._launch.trial_id, self._launch.attempt
        closing: TrialEvent
        try:
            if self._launch.storage is not None:  # The folder is a place to work in, which this node may not have.
                os.makedirs(self._launch.folder, exist_ok=True)
            folder = self._launch.folder if self._launch.changes_folder else None
            # Also for threads that the user starts: a process runs one trial at a time.
            with session_for_block(self._session), in_folder(folder):
                with output_to_files(self._launch.folder, self._launch.log_files):
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
        if inspect.isgenerator(returned):
            for metrics in returned:
                self._session.report(metrics if isinstance(metrics, dict) else {DEFAULT_METRIC: metrics})
            return
        metrics = returned if isinstance(returned, dict) else {DEFAULT_METRIC: returned}
        with contextlib.suppress(TrialEnded):  # It has ended by itself.
            self._session.report(metrics)

    def _run_class(self) -> str | None:
        trainable = self._take_trainable()
        is_clean = False
        try:
            self._restore(trainable)
            self._session.save_now = lambda: self._save_and_persist(trainable)
            checkpoint = self._step_until_ended(trainable)
            is_clean = True
            return checkpoint
        except TrialEnded:
            is_clean = True
            raise
        finally:
            if is_clean and self._keeps_trainable:
                self.trainable = trainable
            else:
                self.trainable = None
                trainable.stop()

    def _take_trainable(self) -> Trainable:
        spare, self.trainable = self.trainable, None
        if spare is not None:
            spare.trial_id, spare.trial_name = self._launch.trial_id, self._launch.name
            spare.logdir = self._launch.folder
            if spare.reset(dict(self._launch.config)):
                return spare
            spare.stop()
        parameters = self._spec.resolve_parameters()
        cls: Any = self._spec.target
        if parameters:
            user_setup = cls.setup
            cls = type(cls.__name__, (cls,), {"setup": lambda self, config: user_setup(self, config, **parameters)})
        made = cls.__new__(cls)
        # Classes written for Ray may have an __init__ of (config) or (config, storage): names come in before it.
        names = {
            "trial_id": self._launch.trial_id,
            "trial_name": self._launch.name,
            "logdir": self._launch.folder,
            "trial_resources": self._launch.wanted,
        }
        if cls.__init__ is Trainable.__init__:
            Trainable.__init__(made, self._launch.config, **names)
        else:
            made.__init__(self._launch.config)
            made.__dict__.update(names)
        return made

    def _restore(self, trainable: Trainable) -> None:
        checkpoint = self._session.get_checkpoint()
        if checkpoint is None:
            return
        trainable.restore(checkpoint)
        trainable._iteration = self._launch.iteration

    def _step_until_ended(self, trainable: Trainable) -> str | None:
        """Step and report until told to end, or until a result says it is done; return a closing checkpoint's name."""
        frequency = self._launch.checkpoint_frequency
        is_due = False
        try:
            while True:
                result = trainable.train()
                is_due = frequency > 0 and trainable.iteration % frequency == 0 or bool(result.get(SHOULD_CHECKPOINT))
                with tempfile.TemporaryDirectory(prefix="trial_") as folder:
                    self._session.report(result, trainable.save(folder) if is_due else None)
        except TrialEnded as ended:
            wants_one = ended.verdict == PAUSE or (self._launch.checkpoint_at_end and ended.verdict != YIELD)
            if wants_one and not is_due:
                ended.checkpoint = self._save_and_persist(trainable)
            raise

    def _save_and_persist(self, trainable: Trainable) -> str:
        with tempfile.TemporaryDirectory(prefix="trial_") as folder:
            return self._session.persist(trainable.save(folder))


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
