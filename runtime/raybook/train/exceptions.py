"""Exceptions of a training run. `TrainingFailedError` is what `fit` raises; the others say whose failure it was.

Source: the names and attributes of `ray.train`.
"""

from __future__ import annotations

import traceback
from collections.abc import Mapping
from typing import Any

import cloudpickle

from raybook.train.preemption import PreemptionInfo


class RayTrainError(Exception):
    """The parent of all of Train's exceptions."""


class TrainingFailedError(RayTrainError):
    """A run failed. Either a `WorkerGroupError`, a `PreemptionError` or a `ControllerError`."""


class WorkerGroupError(TrainingFailedError):
    """Workers failed more often than `FailureConfig(max_failures)` allows. worker_failures: exception by world rank."""

    def __init__(self, error_message: str, worker_failures: Mapping[int, Exception]) -> None:
        super().__init__("Training failed due to worker errors:\n" + error_message)
        self._error_message = error_message
        self.worker_failures = dict(worker_failures)

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self._error_message, self.worker_failures)


class NCCLHangError(WorkerGroupError):
    """A group hangs in NCCL. Part of the public names; raybook has no detector that raises it."""


class ControllerError(TrainingFailedError):
    """The run's controller failed, or could not start its workers. controller_failure: what went wrong."""

    def __init__(self, controller_failure: Exception) -> None:
        super().__init__("Training failed due to controller error:\n" + str(controller_failure))
        self.controller_failure = controller_failure
        self.with_traceback(controller_failure.__traceback__)

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.controller_failure,)


class PreemptionError(TrainingFailedError):
    """A node was taken away under the run, more often than `FailureConfig(max_preemption_failures)` allows."""

    def __init__(self, preemption_info: PreemptionInfo, drain_timed_out: bool = False) -> None:
        super().__init__(
            f"Training was interrupted by node preemption (preempted_ranks={preemption_info.preempted_ranks}, "
            f"drain_timed_out={drain_timed_out})."
        )
        self.preemption_info = preemption_info
        self.drain_timed_out = drain_timed_out

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.preemption_info, self.drain_timed_out)


class WorkerGroupStartupTimeoutError(RayTrainError):
    """A group did not start in time. num_workers: how many it was to have."""

    def __init__(self, num_workers: int, details: str = "") -> None:
        super().__init__(f"The worker group startup timed out waiting for {num_workers} workers. {details}".strip())
        self.num_workers = num_workers
        self._details = details

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.num_workers, self._details)


class WorkerGroupStartupFailedError(RayTrainError):
    """A worker died or failed before the training function began."""


class InsufficientClusterResourcesError(RayTrainError):
    """The whole cluster is too small for the workers that were asked for."""


class CheckpointManagerInitializationError(RayTrainError):
    """The run's folder holds a record of checkpoints that cannot be used."""


class CollectiveTimeoutError(RayTrainError):
    """Workers waited too long for each other. Raised in the workers that waited."""


class BroadcastCollectiveTimeoutError(CollectiveTimeoutError):
    """The same, under the name that Ray gives it."""

    def __init__(self, time_elapsed: float | None, missing_ranks: list[int], timeout_s: float) -> None:
        super().__init__(
            f"The collective operation timed out after {time_elapsed or 0.0:.2f} seconds. The following ranks have not "
            f"joined the collective operation: {missing_ranks}. RAY_TRAIN_COLLECTIVE_TIMEOUT_S sets the limit (now "
            f"{timeout_s:.2f} seconds)."
        )
        self._arguments = (time_elapsed, missing_ranks, timeout_s)

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), self._arguments


class UserExceptionWithTraceback(RayTrainError):
    """What a worker's function raised, with the text of the traceback as its message. cause: the exception itself."""

    def __init__(self, exc: BaseException, traceback_str: str) -> None:
        super().__init__(traceback_str)
        self._base_exc = exc
        self._traceback_str = traceback_str

    @property
    def cause(self) -> BaseException:
        """The exception that the user's code raised."""
        return self._base_exc

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self._base_exc, self._traceback_str)

    def __str__(self) -> str:
        return self._traceback_str


def user_exception(error: BaseException) -> UserExceptionWithTraceback:
    """Return the error in a form that survives a trip to another process, traceback from the user's first frame on."""
    frames = error.__traceback__
    while frames is not None and frames.tb_frame.f_globals.get("__name__", "").startswith("raybook."):
        frames = frames.tb_next
    text = "".join(traceback.format_exception(type(error), error, frames or error.__traceback__))
    try:
        cloudpickle.loads(cloudpickle.dumps(error))
    except Exception:  # noqa: BLE001 - pickling runs the user's own __reduce__ and __init__, which may raise anything.
        error = RayTrainError(f"{type(error).__name__}: {error}")
    return UserExceptionWithTraceback(error, text)
