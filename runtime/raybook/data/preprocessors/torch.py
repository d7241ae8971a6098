"""Transforms of torchvision on columns of images."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from raybook.data.columns import object_array
from raybook.data.datasource.optional import require
from raybook.data.preprocessor import SerializablePreprocessorBase
from raybook.data.preprocessors.version_support import SerializablePreprocessor


@SerializablePreprocessor(version=1, identifier="io.ray.preprocessors.torchvision_preprocessor")
class TorchVisionPreprocessor(SerializablePreprocessorBase):
    """transform: from a tensor or an array to one; gets each image, or with batched=True whole batches. Needs torch."""

    _is_fittable = False

    def __init__(
        self,
        columns: list[str],
        transform: Callable[[Any], Any],
        output_columns: list[str] | None = None,
        batched: bool = False,
    ) -> None:
        super().__init__()
        require("torch", "torch", "TorchVisionPreprocessor")
        output_columns = output_columns or columns
        if len(columns) != len(output_columns):
            raise ValueError(
                f"The length of columns should match the length of output_columns: {columns} vs {output_columns}."
            )
        self.columns, self.output_columns = columns, output_columns
        self.torchvision_transform, self.batched = transform, batched

    @classmethod
    def preferred_batch_format(cls) -> str:
        return "numpy"

    def _transform_numpy(self, np_data: Any) -> Any:
        if not isinstance(np_data, dict):
            return self._batch(np_data)
        made = {out: self._batch(np_data[name]) for name, out in zip(self.columns, self.output_columns, strict=True)}
        return {**np_data, **made}

    def _batch(self, images: np.ndarray) -> np.ndarray:
        if self.batched:
            return self._apply(images)
        rows = [self._apply(image) for image in images]
        if rows and all(row.shape == rows[0].shape for row in rows):
            return np.stack(rows)
        return object_array(rows)

    def _apply(self, array: np.ndarray) -> np.ndarray:
        import torch

        try:
            # Blocks are read-only memory, and torch has no read-only tensors.
            output = self.torchvision_transform(torch.from_numpy(np.array(array)))
        except TypeError:
            # Transforms such as ToTensor want arrays.
            output = self.torchvision_transform(np.array(array))
        if isinstance(output, torch.Tensor):
            output = output.numpy()
        if not isinstance(output, np.ndarray):
            raise ValueError(
                "`TorchVisionPreprocessor` expected your transform to return a `torch.Tensor` or `np.ndarray`, but your "
                f"transform returned a `{type(output).__name__}` instead."
            )
        return output

    def __repr__(self) -> str:
        return (
            f"{type(self).__name__}(columns={self.columns}, output_columns={self.output_columns}, "
            f"transform={self.torchvision_transform!r})"
        )
