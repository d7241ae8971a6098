"""Reported checkpoints: how one is uploaded, how fresh a list of them has to be, and what is known of each."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Any

from raybook.ml.checkpoint import Checkpoint


class CheckpointUploadMode(Enum):
    """SYNC: `report` returns once the checkpoint is saved. ASYNC: a thread saves it, in order, and deletes the local
    copy. NO_UPLOAD: it is where it belongs already."""

    ASYNC = "ASYNC"
    SYNC = "SYNC"
    NO_UPLOAD = "NO_UPLOAD"

    def default_delete_local_checkpoint_after_upload(self) -> bool:
        """Ask whether the local copy is deleted unless the caller says otherwise."""
        return self is CheckpointUploadMode.ASYNC


class CheckpointConsistencyMode(Enum):
    """What `get_all_reported_checkpoints` waits for: that the latest report is saved, or validated as well."""

    COMMITTED = "COMMITTED"
    VALIDATED = "VALIDATED"


class ReportedCheckpointStatus(Enum):
    """COMMITTED: saved, no validation asked for. The others: what became of the validation."""

    COMMITTED = "COMMITTED"
    PENDING_VALIDATION = "PENDING_VALIDATION"
    VALIDATED = "VALIDATED"
    VALIDATION_TIMEOUT = "VALIDATION_TIMEOUT"
    VALIDATION_FAILED = "VALIDATION_FAILED"


@dataclass
class ReportedCheckpoint:
    """One checkpoint that was reported, with its metrics."""

    checkpoint: Checkpoint
    metrics: dict[str, Any]
    status: ReportedCheckpointStatus
