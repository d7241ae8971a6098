"""Callbacks: what users hang on a run. They are called in the controller's process, not in the workers'."""

from __future__ import annotations

import threading
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from raybook import api
from raybook.exceptions import RayActorError
from raybook.ml.session import Session, current_session

if TYPE_CHECKING:
    from raybook.ml.checkpoint import Checkpoint
    from raybook.train.backend import BackendConfig
    from raybook.train.config import RunConfig, ScalingConfig
    from raybook.train.data_config import DataConfig


@dataclass(frozen=True)
class TrainRunContext:
    """What a callback is told of its run. run_id: unique to this `fit`."""

    run_config: RunConfig
    train_loop_config: dict[str, Any] | None
    scaling_config: ScalingConfig
    backend_config: BackendConfig
    dataset_config: DataConfig
    run_id: str = field(default_factory=lambda: uuid4().hex)

    def get_run_config(self) -> RunConfig:
        """Return the run's configuration."""
        return self.run_config


class RayTrainCallback:
    """What all callbacks derive from."""


class UserCallback(RayTrainCallback):
    """Derive from this and override what you want to hear of. What a callback raises ends the run."""

    def after_report(
        self, run_context: TrainRunContext, metrics: list[dict[str, Any]], checkpoint: Checkpoint | None
    ) -> None:
        """All workers have reported. metrics: one dict for each rank. checkpoint: where it was saved, or None."""

    def after_exception(self, run_context: TrainRunContext, worker_exceptions: dict[int, Exception]) -> None:
        """Workers have failed. worker_exceptions: by world rank."""


class ReportForwarder(RayTrainCallback):
    """Hands every report of a run on, in the process that called `fit`: to the trial of Tune that this process is.

    Made in the trial's function; `fit` calls `begin` and `end`. Its thread asks the controller, so that a report does not
    wait for the trial's verdict; a verdict to end aborts the run, and `end` raises it in the trial's own thread.
    """

    def __init__(self) -> None:
        """Raises RuntimeError outside of a trial."""
        self._session: Session | None = current_session(type(self).__name__)
        self._thread: threading.Thread | None = None
        self._ending: BaseException | None = None

    def __getstate__(self) -> dict[str, Any]:
        # In the controller it is a mere mark: somebody will ask for the reports.
        return {"_session": None, "_thread": None, "_ending": None}

    def begin(self, controller: Any) -> None:
        """Begin to hand on what this controller is told."""
        self._thread = threading.Thread(target=self._run, args=(controller,), name="train-reports", daemon=True)
        self._thread.start()

    def end(self) -> None:
        """Wait until all is handed on. Raises the trial's verdict to end, if that came, or what reporting raised."""
        if self._thread is not None:
            self._thread.join()
        if self._ending is not None:
            raise self._ending

    def present(
        self, metrics: dict[str, Any], checkpoint: Checkpoint | None
    ) -> tuple[dict[str, Any], Checkpoint | None]:
        """What the trial is told of one report; override for something else than the report itself."""
        return metrics, checkpoint

    def _run(self, controller: Any) -> None:
        seen = 0
        assert self._session is not None
        try:
            while True:
                reports = api.get(controller.take_reports.remote(seen))
                if reports is None:
                    return
                for report in reports:
                    seen += 1
                    self._session.report(*self.present(*report))
        except RayActorError:
            return  # The controller died; `fit` knows, and begins again with the next one.
        except BaseException as ending:  # noqa: BLE001 - whatever it is, it belongs into the thread that waits in `end`.
            self._ending = ending
            with suppress(RayActorError):
                api.get(controller.abort.remote())
