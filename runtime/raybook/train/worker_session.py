"""Worker session: the worker's side of a run, inside the worker's process.

Saves checkpoints where the run's folder is, and speaks with the controller for all that the ranks do together. Decides
nothing about other ranks. One thread of it, made when first needed, uploads in the background.
Invariants: the numbers of this rank's collectives have no gap; a checkpoint is saved before the controller hears of it;
background uploads end in the order of their reports.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import cloudpickle

from raybook import api
from raybook.ml import filesystem as files
from raybook.ml.checkpoint import Checkpoint
from raybook.train.backend import BackendConfig
from raybook.train.context import TrainContext
from raybook.train.core.ranks import Rank
from raybook.train.core.report_rounds import RankReport
from raybook.train.exceptions import user_exception
from raybook.train.preemption import PreemptionInfo
from raybook.train.reported_checkpoint import CheckpointConsistencyMode, CheckpointUploadMode, ReportedCheckpoint
from raybook.train.storage import StorageContext

REPORT = "raybook.train.report"
BARRIER = "raybook.train.collective.barrier"
BROADCAST = "raybook.train.collective.broadcast_from_rank_zero"
PREEMPTION = "raybook.train.get_preemption_info"


@dataclass(frozen=True)
class Assignment:
    """What a worker is told before its function runs. attempt: number of its group; calls of old groups are refused."""

    attempt: int
    rank: Rank
    controller: Any
    storage: StorageContext
    backend_config: BackendConfig
    dataset_names: tuple[str, ...] = ()
    checkpoint: Checkpoint | None = None
    reports: int = 0
    validates: bool = False


class WorkerSession:
    """One worker of one group, as its training function sees it."""

    is_distributed = True

    def __init__(self, assignment: Assignment) -> None:
        rank = assignment.rank
        self.context = TrainContext(
            assignment.storage.experiment_dir_name,
            rank.world_size,
            rank.world_rank,
            rank.local_rank,
            rank.local_world_size,
            rank.node_rank,
            assignment.storage,
        )
        self._assignment = assignment
        self._rank = rank.world_rank
        self._checkpoint = assignment.checkpoint
        self._reports = assignment.reports
        self._number = 0
        self._shards: dict[str, Any] = {}
        self._uploads: ThreadPoolExecutor | None = None

    def report(
        self,
        metrics: Mapping[str, Any],
        checkpoint: Checkpoint | None = None,
        checkpoint_dir_name: str | None = None,
        checkpoint_upload_mode: CheckpointUploadMode = CheckpointUploadMode.SYNC,
        delete_local_checkpoint_after_upload: bool | None = None,
        checkpoint_upload_fn: Callable[[Checkpoint, str], Checkpoint] | None = None,
        validation: Any = False,
    ) -> None:
        """See `raybook.train.report`."""
        self._check_report(metrics, checkpoint, checkpoint_upload_mode, validation)
        if delete_local_checkpoint_after_upload is None:
            delete_local_checkpoint_after_upload = checkpoint_upload_mode.default_delete_local_checkpoint_after_upload()
        if checkpoint is not None:
            self._check_place(checkpoint, checkpoint_upload_mode, delete_local_checkpoint_after_upload)
        brought = RankReport(dict(metrics), checkpoint is not None, checkpoint_dir_name, validation)
        number, name = self._join(REPORT, brought)
        self._reports += 1
        if checkpoint is None:
            return
        if checkpoint_upload_mode is CheckpointUploadMode.NO_UPLOAD:
            self._commit(number, checkpoint)
            return

        def upload() -> None:
            saved = self._save(checkpoint, name, checkpoint_upload_fn)
            if delete_local_checkpoint_after_upload:
                files.delete(None if checkpoint.is_local else checkpoint.filesystem, checkpoint.path)
            self._commit(number, saved)

        if checkpoint_upload_mode is CheckpointUploadMode.SYNC:
            upload()
        else:
            self._in_background(upload)

    def get_checkpoint(self) -> Checkpoint | None:
        """Return the last checkpoint that this rank reported, or what the group goes on from."""
        return self._checkpoint

    def get_all_reported_checkpoints(
        self, consistency_mode: CheckpointConsistencyMode, timeout_s: float | None
    ) -> list[ReportedCheckpoint]:
        """See `raybook.train.get_all_reported_checkpoints`."""
        if not isinstance(consistency_mode, CheckpointConsistencyMode):
            raise ValueError(f"Unexpected CheckpointConsistencyMode: {consistency_mode!r}")
        ask = self._assignment.controller.reported_checkpoints.remote
        return api.get(ask(self._assignment.attempt, self._reports, consistency_mode, timeout_s))

    def get_dataset_shard(self, name: str | None) -> Any:
        """See `raybook.train.get_dataset_shard`."""
        known = self._assignment.dataset_names
        if not known and name is None:
            return None
        if name not in known:
            given = ", ".join(known) or "none"
            raise KeyError(
                f"Dataset shard for '{name}' not found. Please ensure that the dataset is passed through the Trainer "
                f"`datasets` argument. Datasets of this run: {given}."
            )
        if name not in self._shards:
            ask = self._assignment.controller.dataset_shard.remote
            self._shards[name] = api.get(ask(self._assignment.attempt, self._rank, name))
        return self._shards[name]

    def get_preemption_info(self) -> PreemptionInfo | None:
        """See `raybook.train.get_preemption_info`."""
        return self._join(PREEMPTION, None)

    def barrier(self) -> None:
        """Wait until every rank is here."""
        self._join(BARRIER, None)

    def broadcast_from_rank_zero(self, data: Any) -> Any:
        """Wait until every rank is here; return what rank 0 brought."""
        return cloudpickle.loads(self._join(BROADCAST, cloudpickle.dumps(data)))

    def finish(self) -> None:
        """Wait for the uploads that are still under way."""
        if self._uploads is not None:
            self._uploads.shutdown(wait=True)

    def _join(self, verb: str, payload: Any) -> Any:
        self._number += 1
        assignment = self._assignment
        return api.get(assignment.controller.join.remote(assignment.attempt, self._rank, self._number, verb, payload))

    def _save(
        self, checkpoint: Checkpoint, name: str, upload: Callable[[Checkpoint, str], Checkpoint] | None
    ) -> Checkpoint:
        storage = self._assignment.storage
        if upload is None:
            storage.write_aside(checkpoint, name)
            return storage.checkpoint(name)
        saved = upload(checkpoint, name)
        if not isinstance(saved, Checkpoint):
            raise ValueError(f"checkpoint_upload_fn must return a `ray.train.Checkpoint`. Actual type is {type(saved)}")
        if not storage.holds(saved):
            raise ValueError(
                "Your `checkpoint_upload_fn` returned a checkpoint outside the experiment directory: "
                f"{saved.path!r} is not below {storage.experiment_fs_path!r}. Write to a path below it: "
                "raybook.train.get_context().get_storage().experiment_fs_path names it."
            )
        return saved

    def _commit(self, number: int, checkpoint: Checkpoint) -> None:
        assignment = self._assignment
        name = assignment.storage.name_of(checkpoint)
        api.get(assignment.controller.commit.remote(assignment.attempt, self._rank, number, name))
        self._checkpoint = assignment.storage.checkpoint(name)

    def _in_background(self, upload: Callable[[], None]) -> None:
        def run() -> None:
            try:
                upload()
            except BaseException as error:  # noqa: BLE001 - nobody waits for this thread: the controller must hear of it.
                assignment = self._assignment
                api.get(assignment.controller.fail.remote(assignment.attempt, self._rank, user_exception(error)))

        if self._uploads is None:
            # One: reports become checkpoints in their order.
            self._uploads = ThreadPoolExecutor(max_workers=1, thread_name_prefix="checkpoint-upload")
        self._uploads.submit(run)

    def _check_report(self, metrics: Any, checkpoint: Any, mode: Any, validation: Any) -> None:
        if not isinstance(metrics, Mapping):
            raise TypeError(f"report() takes a dict of metrics, such as {{'loss': 0.1}}, not {metrics!r}.")
        if checkpoint is not None and not isinstance(checkpoint, Checkpoint):
            raise TypeError(f"report(checkpoint=...) takes a Checkpoint, not {checkpoint!r}.")
        if not isinstance(mode, CheckpointUploadMode):
            raise ValueError(f"Invalid checkpoint upload mode: {mode}")
        if validation and checkpoint is None:
            raise ValueError("Validation requires a checkpoint to be provided.")
        if validation and not self._assignment.validates:
            raise ValueError("`validation_config` was not set on the trainer, but a validation was requested.")
        if holds_tensor(metrics):
            raise ValueError(
                "Passing objects containing Torch tensors as metrics is not supported as it will throw an exception on "
                "deserialization. You can either convert the tensors to Python objects (ex: `.numpy()`, `.item()`, "
                "etc.) or save tensors as part of the checkpoint files instead."
            )

    def _check_place(self, checkpoint: Checkpoint, mode: CheckpointUploadMode, is_deleted: bool) -> None:
        storage = self._assignment.storage
        if is_deleted and storage.lies_within(checkpoint):
            raise ValueError(
                f"The run's folder {storage.experiment_fs_path!r} is contained within the checkpoint path "
                f"{checkpoint.path!r}, and the local checkpoint is to be deleted after the upload. Write the checkpoint "
                "to a temporary folder, or pass delete_local_checkpoint_after_upload=False."
            )
        if mode is CheckpointUploadMode.NO_UPLOAD and not storage.holds(checkpoint):
            raise ValueError(
                f"Your `ray.train.report(checkpoint)` is outside the experiment directory: {checkpoint.path!r} is not "
                f"below {storage.experiment_fs_path!r}. Upload into the run's folder, or report a small checkpoint "
                "that holds the address of the real one."
            )


def holds_tensor(value: Any) -> bool:
    """Ask whether a value is a torch tensor, or a dict or sequence that holds one. Does not import torch."""
    if "torch" not in sys.modules:
        return False
    tensor = sys.modules["torch"].Tensor

    def holds(inner: Any) -> bool:
        if isinstance(inner, tensor):
            return True
        if isinstance(inner, Mapping):
            return any(holds(part) for part in inner.values())
        return isinstance(inner, (list, tuple, set, frozenset)) and any(holds(part) for part in inner)

    return holds(value)
