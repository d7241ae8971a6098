"""Tensor batches: a table as tensors of torch, TensorFlow or JAX. None of them is imported before it is asked for."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import numpy as np
import pyarrow as pa

from raybook.api import get_gpu_ids
from raybook.data.batches import to_numpy_batch


def torch_batch(
    table: pa.Table, dtypes: Any, device: Any, collate: Callable[[pa.Table], Any] | None, pin_memory: bool
) -> Any:
    """A dict of tensors with memory of their own: what comes from the store is read-only, and torch would write to it.
    collate: makes something else of the table instead."""
    target = torch_device(device)
    if collate is not None:
        made = collate(table)
    else:
        made = {
            name: torch_tensor(values, dtypes.get(name) if isinstance(dtypes, dict) else dtypes, name)
            for name, values in to_numpy_batch(table).items()
        }
    if pin_memory:
        made = _each_tensor(made, "pin_memory", lambda tensor: tensor.pin_memory())
    if target is None or str(target) == "cpu":
        return made
    return _each_tensor(made, "to", lambda tensor: _moved(tensor, target, pin_memory))


def torch_device(device: Any) -> Any:
    """The device meant by `device`; None for the CPU."""
    if device is None or device == "cpu":
        return None
    if device == "auto":
        return _train_device()
    return device


def _train_device() -> Any:
    """The GPU of this process if it was given one: a Train worker's, or a task's."""
    import torch

    try:
        has_gpu = bool(get_gpu_ids()) and os.environ.get("CUDA_VISIBLE_DEVICES") not in (None, "", "NoDevFiles")
    except Exception:  # noqa: BLE001 - no cluster, no GPU of its own.
        has_gpu = False
    return "cuda" if has_gpu and torch.cuda.is_available() else None


def torch_tensor(values: np.ndarray, dtype: Any, name: str) -> Any:
    """One column. TypeError naming it when it is of no numbers."""
    import torch

    if values.dtype.kind == "O":
        if len(values) and all(isinstance(value, np.ndarray) for value in values):
            shapes = {value.shape for value in values}
            if len(shapes) == 1:
                values = np.stack(list(values))
            else:
                return torch.nested.nested_tensor([torch.as_tensor(np.array(value), dtype=dtype) for value in values])
        else:
            raise TypeError(
                f"Column {name!r} cannot become a tensor: its values are {type(values[0]).__name__ if len(values) else '?'}"
                "s. Leave it out with select_columns, or make numbers of it, or pass a collate_fn."
            )
    if values.dtype.kind in "mM":
        values = values.astype("int64")
    if values.dtype == np.uint16 or values.dtype == np.uint32 or values.dtype == np.uint64:
        values = values.astype("int64")
    return torch.as_tensor(np.array(values), dtype=dtype)


def _each_tensor(value: Any, method: str, change: Callable[[Any], Any]) -> Any:
    """The same nest with everything changed that has such a method: tensors, and batches of other libraries."""
    if hasattr(value, method):
        return change(value)
    if isinstance(value, dict):
        return {key: _each_tensor(item, method, change) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        items = [_each_tensor(item, method, change) for item in value]
        return type(value)(*items) if hasattr(value, "_fields") else type(value)(items)
    return value


def _moved(value: Any, device: Any, is_pinned: bool) -> Any:
    return value.to(device, non_blocking=True) if is_pinned and hasattr(value, "pin_memory") else value.to(device)


class TorchTable:
    """Makes (features, label) of a table, as `to_torch` says."""

    def __init__(
        self,
        label: str | None,
        features: Any,
        label_dtype: Any,
        feature_dtypes: Any,
        unsqueeze_label: bool,
        unsqueeze_features: bool,
    ) -> None:
        self.label, self.features = label, features
        self.label_dtype, self.feature_dtypes = label_dtype, feature_dtypes
        self.unsqueeze_label, self.unsqueeze_features = unsqueeze_label, unsqueeze_features

    def __call__(self, table: pa.Table) -> tuple[Any, Any]:
        batch = to_numpy_batch(table)
        label = None
        if self.label is not None:
            label = torch_tensor(batch.pop(self.label), self.label_dtype, self.label)
            if self.unsqueeze_label:
                label = label.view(-1, 1)
        columns, kinds = self.features, self.feature_dtypes
        if isinstance(columns, dict):
            by_key = {
                key: self._side_by_side(batch, names, kinds.get(key) if isinstance(kinds, dict) else kinds)
                for key, names in columns.items()
            }
            return by_key, label
        if isinstance(columns, list) and columns and isinstance(columns[0], (list, tuple)):
            each = kinds if isinstance(kinds, list) else [kinds] * len(columns)
            return [self._side_by_side(batch, names, kind) for names, kind in zip(columns, each, strict=True)], label
        return self._side_by_side(batch, columns or list(batch), kinds), label

    def _side_by_side(self, batch: dict[str, np.ndarray], names: Any, dtype: Any) -> Any:
        import torch

        wanted = [names] if isinstance(names, str) else list(names)
        tensors = [torch_tensor(batch[name], dtype, name) for name in wanted]
        if self.unsqueeze_features:
            tensors = [tensor.unsqueeze(1) for tensor in tensors]
        return torch.cat(tensors, dim=1) if len(tensors) > 1 else tensors[0]


def tf_batch(table: pa.Table, dtypes: Any) -> Any:
    """A dict of TensorFlow's tensors."""
    import tensorflow as tf

    return {
        name: tf.convert_to_tensor(values, dtype=dtypes.get(name) if isinstance(dtypes, dict) else dtypes)
        for name, values in to_numpy_batch(table).items()
    }


def jax_batch(table: pa.Table, dtypes: Any, collate_fn: Callable[[Any], Any] | None) -> Any:
    """A dict of JAX arrays."""
    import jax.numpy as jnp

    batch = to_numpy_batch(table)
    if collate_fn is not None:
        return collate_fn(batch)
    return {
        name: jnp.asarray(values, dtype=dtypes.get(name) if isinstance(dtypes, dict) else dtypes)
        for name, values in batch.items()
    }
