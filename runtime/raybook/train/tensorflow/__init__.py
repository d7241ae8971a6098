"""TensorFlow: a trainer whose workers know each other. Its function needs `pip install tensorflow-cpu`
(or `tensorflow`); naming the trainer does not."""

from __future__ import annotations

from typing import TYPE_CHECKING

from raybook.train.lazy_names import lazy_names

if TYPE_CHECKING:
    from raybook.train.tensorflow.config import TensorflowConfig
    from raybook.train.tensorflow.tensorflow_trainer import TensorflowTrainer
    from raybook.train.tensorflow.train_loop_utils import prepare_dataset_shard

__all__ = ["TensorflowConfig", "TensorflowTrainer", "prepare_dataset_shard"]

__getattr__, __dir__ = lazy_names(
    __name__,
    {
        "config": "TensorflowConfig",
        "tensorflow_trainer": "TensorflowTrainer",
        "train_loop_utils": "prepare_dataset_shard",
    },
)
