"""The verbs of a training function. They find the current session and hand over; they decide nothing.

`report`, `get_checkpoint` and `get_context` speak to whatever runs the function, be it a trial of Tune or a worker of
Train; the others are for workers.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from raybook.ml.checkpoint import Checkpoint
from raybook.ml.session import current_session
from raybook.train.preemption import PreemptionInfo
from raybook.train.reported_checkpoint import CheckpointConsistencyMode, CheckpointUploadMode, ReportedCheckpoint


def report(
    metrics: Mapping[str, Any],
    checkpoint: Checkpoint | None = None,
    checkpoint_dir_name: str | None = None,
    checkpoint_upload_mode: CheckpointUploadMode = CheckpointUploadMode.SYNC,
    delete_local_checkpoint_after_upload: bool | None = None,
    checkpoint_upload_fn: Callable[[Checkpoint, str], Checkpoint] | None = None,
    validation: Any = False,
) -> None:
    """Report metrics, and a checkpoint if given, to the run. A barrier: returns once every worker has reported.

    metrics: names to numbers or short values, no tensors; rank 0's are recorded. checkpoint: what several ranks bring
    becomes one folder. checkpoint_dir_name: its name, made from the time if None. checkpoint_upload_mode: whether this
    waits for the copy. checkpoint_upload_fn: copies in place of raybook; gets the checkpoint and the name, returns where
    it is now. validation: True or a `ValidationTaskConfig` to have the trainer's `validation_config` look at it.

    Raises TypeError and ValueError for wrong arguments, RuntimeError outside of a run or when the other workers are
    somewhere else in theirs. In a trial that is stopped here it does not return. Cost: one round trip, and the copy.
    """
    session: Any = _session("report")
    options = {
        "checkpoint_dir_name": checkpoint_dir_name,
        "checkpoint_upload_mode": checkpoint_upload_mode,
        "delete_local_checkpoint_after_upload": delete_local_checkpoint_after_upload,
        "checkpoint_upload_fn": checkpoint_upload_fn,
        "validation": validation,
    }
    if _is_worker(session):
        session.report(metrics, checkpoint, **options)
    else:
        session.report(metrics, checkpoint)


def get_checkpoint() -> Checkpoint | None:
    """Return the checkpoint to go on from, or None at a fresh start. Raises RuntimeError outside of a run."""
    return _session("get_checkpoint").get_checkpoint()


def get_context() -> Any:
    """Return the worker's ranks and names (`TrainContext`), in a trial the trial's. Raises RuntimeError outside."""
    return _session("get_context").context


def get_dataset_shard(dataset_name: str | None = None) -> Any:
    """Return this worker's iterator over one of the trainer's `datasets`; None if the trainer was given none.

    The same object each time. Raises KeyError for a name that the trainer does not know, RuntimeError outside of a
    worker. Cost: one round trip the first time.
    """
    return _worker_session("get_dataset_shard").get_dataset_shard(dataset_name)


def get_all_reported_checkpoints(
    consistency_mode: CheckpointConsistencyMode = CheckpointConsistencyMode.VALIDATED,
    timeout_s: float | None = None,
) -> list[ReportedCheckpoint]:
    """Return the checkpoints that the run keeps, worst first if they are scored, else oldest first.

    Waits until what was reported before is saved (COMMITTED) or validated as well (VALIDATED), at most timeout_s seconds.
    """
    return _worker_session("get_all_reported_checkpoints").get_all_reported_checkpoints(consistency_mode, timeout_s)


def get_preemption_info() -> PreemptionInfo | None:
    """Return which nodes of this run are about to be taken away, None while none is. A barrier over all workers.

    When it says something, save a checkpoint and go on: after the node has gone, the run goes on from it.
    """
    return _worker_session("get_preemption_info").get_preemption_info()


def _session(caller: str) -> Any:
    try:
        return current_session(caller)
    except RuntimeError:
        raise RuntimeError(
            f"`{caller}` cannot be used outside of a Ray Train training function: it was called outside of a trial and "
            "of a worker. Call it in the function given to a trainer, or to Tuner(...); nothing was reported."
        ) from None


def _worker_session(caller: str) -> Any:
    session = _session(caller)
    if not _is_worker(session):
        raise RuntimeError(
            f"`{caller}` cannot be used outside of a Ray Train training function: this is a trial of Tune. Call it in "
            "the function given to a trainer."
        )
    return session


def _is_worker(session: Any) -> bool:
    return hasattr(session, "is_distributed")
