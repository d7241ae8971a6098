"""Hugging Face transformers under a TorchTrainer: a callback and a preparation. Needs `pip install transformers`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from raybook.train.lazy_names import lazy_names

if TYPE_CHECKING:
    from raybook.train.huggingface.transformers.report_callback import RayTrainReportCallback
    from raybook.train.huggingface.transformers.trainer import prepare_trainer

__all__ = ["RayTrainReportCallback", "prepare_trainer"]

__getattr__, __dir__ = lazy_names(__name__, {"report_callback": "RayTrainReportCallback", "trainer": "prepare_trainer"})
