"""Train: one function on many workers, with checkpoints that outlive them.

    from raybook.train import RunConfig, ScalingConfig
    from raybook.train.torch import TorchTrainer

    result = TorchTrainer(train_function, scaling_config=ScalingConfig(num_workers=2)).fit()

Reading order: `session` the verbs of a training function · `config` · `data_parallel_trainer` where `fit` begins ·
`controller` leads a run (`desk` answers its workers, `group_starter` and `worker_group` start them, `checkpoint_keeper`
keeps what they save) · `worker` and `worker_session` are in the workers · `core` decides. The frameworks have a folder
each: `torch`, `lightning`, `huggingface`, `xgboost`, `lightgbm`, `tensorflow`, `jax`.

Names are found when they are first used, so that a trial's or worker's process starts quickly.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from raybook.ml.checkpoint import Checkpoint
    from raybook.train.backend import Backend, BackendConfig
    from raybook.train.callback import UserCallback
    from raybook.train.config import CheckpointConfig, FailureConfig, LoggingConfig, RunConfig, ScalingConfig
    from raybook.train.context import TrainContext
    from raybook.train.data_config import TRAIN_DATASET_KEY, DataConfig
    from raybook.train.data_parallel_trainer import DataParallelTrainer
    from raybook.train.exceptions import (
        ControllerError,
        NCCLHangError,
        PreemptionError,
        TrainingFailedError,
        WorkerGroupError,
    )
    from raybook.train.preemption import PreemptionInfo
    from raybook.train.reported_checkpoint import (
        CheckpointConsistencyMode,
        CheckpointUploadMode,
        ReportedCheckpoint,
        ReportedCheckpointStatus,
    )
    from raybook.train.result import Result
    from raybook.train.session import (
        get_all_reported_checkpoints,
        get_checkpoint,
        get_context,
        get_dataset_shard,
        get_preemption_info,
        report,
    )
    from raybook.train.sync_config import SyncConfig
    from raybook.train.validation import ValidationConfig, ValidationFn, ValidationTaskConfig

_NAMES_OF = {
    "raybook.ml.checkpoint": "Checkpoint",
    "raybook.train.backend": "Backend BackendConfig",
    "raybook.train.callback": "UserCallback",
    "raybook.train.config": "CheckpointConfig FailureConfig LoggingConfig RunConfig ScalingConfig",
    "raybook.train.context": "TrainContext",
    "raybook.train.data_config": "DataConfig TRAIN_DATASET_KEY",
    "raybook.train.data_parallel_trainer": "DataParallelTrainer",
    "raybook.train.exceptions": "ControllerError NCCLHangError PreemptionError TrainingFailedError WorkerGroupError",
    "raybook.train.preemption": "PreemptionInfo",
    "raybook.train.reported_checkpoint": "CheckpointConsistencyMode CheckpointUploadMode ReportedCheckpoint "
    "ReportedCheckpointStatus",
    "raybook.train.result": "Result",
    "raybook.train.session": "get_all_reported_checkpoints get_checkpoint get_context get_dataset_shard "
    "get_preemption_info report",
    "raybook.train.sync_config": "SyncConfig",
    "raybook.train.validation": "ValidationConfig ValidationFn ValidationTaskConfig",
}
_MODULE_OF = {name: module for module, names in _NAMES_OF.items() for name in names.split()}

__all__ = [
    "TRAIN_DATASET_KEY",
    "Backend",
    "BackendConfig",
    "Checkpoint",
    "CheckpointConfig",
    "CheckpointConsistencyMode",
    "CheckpointUploadMode",
    "ControllerError",
    "DataConfig",
    "DataParallelTrainer",
    "FailureConfig",
    "LoggingConfig",
    "NCCLHangError",
    "PreemptionError",
    "PreemptionInfo",
    "ReportedCheckpoint",
    "ReportedCheckpointStatus",
    "Result",
    "RunConfig",
    "ScalingConfig",
    "SyncConfig",
    "TrainContext",
    "TrainingFailedError",
    "UserCallback",
    "ValidationConfig",
    "ValidationFn",
    "ValidationTaskConfig",
    "WorkerGroupError",
    "get_all_reported_checkpoints",
    "get_checkpoint",
    "get_context",
    "get_dataset_shard",
    "get_preemption_info",
    "report",
]

# Folders that are reached as attributes after `import raybook.train` alone.
_ROOMS = frozenset({"collective", "huggingface", "jax", "lightgbm", "lightning", "tensorflow", "torch", "xgboost"})


def __getattr__(name: str) -> Any:
    if name in _ROOMS:
        return import_module(f"raybook.train.{name}")
    if name not in _MODULE_OF:
        raise AttributeError(f"module 'raybook.train' has no attribute {name!r}")
    value = getattr(import_module(_MODULE_OF[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*__all__, *_ROOMS})
