"""Run plan: all that a controller needs, as the driver hands it over; and run outcome, what comes back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from raybook.ml.checkpoint import Checkpoint
from raybook.train.callback import TrainRunContext
from raybook.train.exceptions import TrainingFailedError
from raybook.train.settings import TrainSettings
from raybook.train.storage import StorageContext
from raybook.train.validation import ValidationConfig


@dataclass(frozen=True)
class RunPlan:
    """One run. function: a list with the reference of its TrainFunction, which only workers fetch.

    initial_checkpoint: what the first group goes on from, where the run has none of its own.
    """

    run_context: TrainRunContext
    storage: StorageContext
    function: list[Any]
    settings: TrainSettings
    datasets: Mapping[str, Any] = field(default_factory=dict)
    validation_config: ValidationConfig | None = None
    initial_checkpoint: Checkpoint | None = None


@dataclass(frozen=True)
class RunOutcome:
    """How a run ended. best_checkpoints: worst first. is_aborted: it was asked to."""

    metrics: dict[str, Any] | None
    checkpoint: Checkpoint | None
    best_checkpoints: list[tuple[Checkpoint, dict[str, Any]]]
    error: TrainingFailedError | None = None
    return_value: Any = None
    is_aborted: bool = False
