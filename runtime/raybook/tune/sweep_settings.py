"""Sweep settings: what a sweep was asked for, and what it needs of the place where trials keep their files."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from raybook.ml.run_config import CheckpointConfig, FailureConfig
from raybook.tune.core.trial_table import Trial


class TrialFiles(Protocol):
    """Where trials keep their files."""

    def create(self, trial: Trial) -> str:
        """Make the trial's folder and return it."""

    def checkpoint_path(self, trial: Trial, name: str) -> str:
        """Return where the checkpoint called name lies."""

    def delete_checkpoint(self, trial: Trial, name: str) -> None:
        """Delete a checkpoint that is no longer kept."""

    def copy_checkpoint(self, source: Trial, source_name: str, target: Trial, target_name: str) -> None:
        """Copy a checkpoint of one trial into the folder of another, whole or not at all."""

    def write_file(self, name: str, text: str) -> None:
        """Replace a text file in the run's folder."""


@dataclass
class SweepSettings:
    """What a sweep was asked for. num_samples, max_concurrent_trials, time_budget_ms: None for no limit."""

    experiment_name: str
    metric: str | None = None
    mode: str | None = None
    num_samples: int | None = 1
    max_concurrent_trials: int | None = None
    time_budget_ms: int | None = None
    failure_config: FailureConfig = field(default_factory=FailureConfig)
    checkpoint_config: CheckpointConfig = field(default_factory=CheckpointConfig)
    param_space: Mapping[str, Any] = field(default_factory=dict)
    constants: Mapping[str, Any] = field(default_factory=dict)
    storage_path: str = ""
    log_files: tuple[str, str] | None = None
    changes_folder: bool = False
    trial_id_prefix: str = "trial"
    trial_name: Callable[[Trial], str] | None = None
    trainable_name: str = "trainable"
    resources: Callable[[Mapping[str, Any]], Any] = lambda config: {"CPU": 1.0}
