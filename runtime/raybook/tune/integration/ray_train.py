"""Train inside Tune: hands what a training run reports on to the trial in which the run was started.

    def trial(config):
        trainer = TorchTrainer(train_function, train_loop_config=config, scaling_config=...,
                               run_config=train.RunConfig(callbacks=[TuneReportCallback()]))
        trainer.fit()

    tune.Tuner(trial, ...).fit()

The callback runs in the process of the run's controller. A queue brings its reports to the trial's process, where a thread
passes them on to Tune in their order.
Invariants: the trial does not end before its reports are passed on; a trial that Tune stops ends with its training run.
"""

from __future__ import annotations

import threading
from typing import Any

from raybook.ml.checkpoint import Checkpoint
from raybook.ml.session import current_session, enter_session
from raybook.train.callback import UserCallback
from raybook.tune.core.trial_events import TrialReleased
from raybook.tune.trial_session import TrialEnded, TrialSession
from raybook.util.queue import Queue

CHECKPOINT_PATH_KEY = "checkpoint_path"
_END = "__end__"


class TuneReportCallback(UserCallback):
    """Passes the reports of a training run's rank 0 on to Tune, with the path of the checkpoint as "checkpoint_path".

    Raises RuntimeError outside of a trial.
    """

    def __init__(self) -> None:
        try:
            session = current_session("TuneReportCallback")
        except RuntimeError:
            session = None  # type: ignore[assignment]
        if not isinstance(session, TrialSession):
            raise RuntimeError("TuneReportCallback must be used in a Tune session: make it inside a trial's function.")
        # The queue holds no CPU: the trial's own share is its workers'.
        self._queue = Queue(actor_options={"num_cpus": 0})
        thread = threading.Thread(target=_pass_on, args=(self._queue, session), daemon=True, name="tune-reports")
        thread.start()
        session.before_end.append(lambda: _finish(self._queue, thread))

    def after_report(self, run_context: Any, metrics: list[dict[str, Any]], checkpoint: Checkpoint | None) -> None:
        first = dict(metrics[0])
        if checkpoint is not None:
            first[CHECKPOINT_PATH_KEY] = checkpoint.path
        self._queue.put(first)


def _pass_on(queue: Queue, session: TrialSession) -> None:
    enter_session(session)
    while (metrics := queue.get()) != _END:
        try:
            session.report(metrics)
        except TrialEnded:
            # The trial's own thread waits for its training run; this event lets its process be ended with all of it.
            session.events.put(TrialReleased(session.trial_id, session.attempt))
            return


def _finish(queue: Queue, thread: threading.Thread) -> None:
    queue.put(_END)
    thread.join()
