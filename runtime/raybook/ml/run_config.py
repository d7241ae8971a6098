"""Run configuration: the records in which a user says where a run is stored and how it treats failures.

Checks the values when the record is made, so that a wrong one is reported at the user's line. Decides nothing.
Source: names, defaults and meanings are those of Ray's `RunConfig`, `FailureConfig` and `CheckpointConfig`.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from raybook.ml.core.metrics import check_mode


def check_run_name(name: str | None) -> None:
    """Refuse a name that is not the name of one folder; None is fine. Raises ValueError."""
    if name is not None and (not name or name in (".", "..") or "/" in name):
        raise ValueError(f"RunConfig.name must be the name of one folder, not {name!r}.")


@dataclass
class FailureConfig:
    """How failures are treated. max_failures: restarts of a trial or run, -1 for no limit.

    fail_fast: True ends a sweep at its first failed trial; "raise" also raises that trial's error.
    """

    max_failures: int = 0
    fail_fast: bool | str = False

    def __post_init__(self) -> None:
        if not isinstance(self.max_failures, int) or self.max_failures < -1:
            raise ValueError(f"max_failures must be -1 (no limit), 0 or more, not {self.max_failures!r}.")
        if self.fail_fast not in (True, False, "raise"):
            raise ValueError(f"fail_fast must be True, False or 'raise', not {self.fail_fast!r}.")
        if self.fail_fast and self.max_failures != 0:
            raise ValueError(f"fail_fast={self.fail_fast!r} needs max_failures=0, not {self.max_failures}.")


@dataclass
class CheckpointConfig:
    """Which checkpoints are kept, and (class trainables) how often one is made.

    num_to_keep: None keeps all. checkpoint_score_attribute: metric that ranks them, None ranks by age.
    checkpoint_frequency: iterations between two, 0 for never. checkpoint_at_end: one more at the end.
    """

    num_to_keep: int | None = None
    checkpoint_score_attribute: str | None = None
    checkpoint_score_order: str = "max"
    checkpoint_frequency: int = 0
    checkpoint_at_end: bool = False

    def __post_init__(self) -> None:
        if self.num_to_keep is not None and (not isinstance(self.num_to_keep, int) or self.num_to_keep < 1):
            raise ValueError(f"num_to_keep must be None or at least 1, not {self.num_to_keep!r}.")
        check_mode(self.checkpoint_score_order, "checkpoint_score_order")
        if not isinstance(self.checkpoint_frequency, int) or self.checkpoint_frequency < 0:
            raise ValueError(f"checkpoint_frequency must be 0 or more iterations, not {self.checkpoint_frequency!r}.")


@dataclass
class RunConfig:
    """Name, storage and policies of one run.

    name: the folder under storage_path; made from the trainable and the time if None.
    storage_path: a local or shared folder, or a URI such as `s3://bucket/runs`; `~/raybook_results` if None.
    stop: {metric: value} that ends a trial once reached, a function (trial_id, result) -> bool, or a Stopper.
    storage_filesystem: the pyarrow or fsspec filesystem that storage_path lies on; None to read it from the path.
    verbose: 0 prints nothing, anything else prints progress where no panel shows it.
    progress_reporter: what prints instead. log_to_file: keep what trials print in files of their folders: True for
    `stdout` and `stderr`, one name for both, or two. sync_config: accepted and without effect; local_dir: refused.
    """

    name: str | None = None
    storage_path: str | os.PathLike[str] | None = None
    storage_filesystem: Any | None = None
    failure_config: FailureConfig = field(default_factory=FailureConfig)
    checkpoint_config: CheckpointConfig = field(default_factory=CheckpointConfig)
    sync_config: Any | None = None
    verbose: int | None = None
    stop: Mapping[str, Any] | Callable[[str, dict[str, Any]], bool] | Any | None = None
    callbacks: Sequence[Any] = ()
    progress_reporter: Any | None = None
    log_to_file: bool | str | tuple[str, str] = False
    local_dir: str | None = None

    def __post_init__(self) -> None:
        check_run_name(self.name)
        if self.local_dir is not None:
            raise DeprecationWarning("RunConfig(local_dir=...) is deprecated: set RunConfig(storage_path=...) instead.")
        if self.failure_config is None:
            self.failure_config = FailureConfig()
        if self.checkpoint_config is None:
            self.checkpoint_config = CheckpointConfig()
        self.callbacks = tuple(self.callbacks or ())
