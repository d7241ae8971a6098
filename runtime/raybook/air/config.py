"""Configurations under the module path that Ray's users import them from."""

from raybook.ml.run_config import CheckpointConfig, FailureConfig, RunConfig
from raybook.train.config import ScalingConfig

__all__ = ["CheckpointConfig", "FailureConfig", "RunConfig", "ScalingConfig"]
