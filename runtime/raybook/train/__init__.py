"""Train: the records and verbs that a training function uses. So far the part that Tune shares with it.

`report`, `get_checkpoint` and `get_context` speak to whatever runs the function, be it a trial or a worker.
"""

from raybook.ml.checkpoint import Checkpoint
from raybook.ml.result import Result
from raybook.ml.run_config import CheckpointConfig, FailureConfig, RunConfig
from raybook.train.session import get_checkpoint, get_context, report

__all__ = [
    "Checkpoint",
    "CheckpointConfig",
    "FailureConfig",
    "Result",
    "RunConfig",
    "get_checkpoint",
    "get_context",
    "report",
]
