"""Writing TFRecord files of `tf.train.Example`. No TensorFlow is needed."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa

from raybook.data.block_accessor import BlockAccessor
from raybook.data.columns import to_list
from raybook.data.core.tf_example import BYTES, FLOAT, INT, encode_example, frame
from raybook.data.datasource.file_datasink import BlockBasedFileDatasink


class TFRecordDatasink(BlockBasedFileDatasink):
    """tf_schema: a tensorflow_metadata Schema, whose types every column must have."""

    def __init__(self, path: str, *, tf_schema: Any = None, file_format: str = "tfrecords", **file_args: Any) -> None:
        super().__init__(path, file_format=file_format, **file_args)
        self._kinds = None
        if tf_schema is not None:
            kinds = {1: BYTES, 2: INT, 3: FLOAT}
            self._kinds = {feature.name: kinds.get(int(feature.type)) for feature in tf_schema.feature}

    def get_name(self) -> str:
        return "TFRecord"

    def write_block_to_file(self, block: BlockAccessor, file: pa.NativeFile) -> None:
        table = block.to_arrow()
        kinds = [self._kind_of(field) for field in table.schema]
        columns = [to_list(column) for column in table.columns]
        names = table.column_names
        for values in zip(*columns, strict=True):
            features = {
                name: (None, ()) if value is None else (kind, _values(kind, value))
                for name, kind, value in zip(names, kinds, values, strict=True)
            }
            file.write(frame(encode_example(features)))

    def _kind_of(self, field: pa.Field) -> str | None:
        kind = feature_kind(field)
        if self._kinds is None:
            return kind
        if field.name not in self._kinds:
            raise ValueError(
                f"Found extra unexpected feature {field.name} not in specified schema: {list(self._kinds)}"
            )
        told = self._kinds[field.name]
        if kind is not None and told != kind:
            raise ValueError(
                f"Schema field type mismatch during write of {field.name!r}: specified type is {told}, but underlying type "
                f"is {kind}"
            )
        return told


def feature_kind(field: pa.Field) -> str | None:
    """The kind of feature that a column becomes. ValueError for types that features do not have."""
    kind = field.type
    while hasattr(kind, "value_type") and not pa.types.is_dictionary(kind):
        kind = kind.value_type
    if pa.types.is_integer(kind) or pa.types.is_boolean(kind):
        return INT
    if pa.types.is_floating(kind):
        return FLOAT
    if pa.types.is_binary(kind) or pa.types.is_large_binary(kind):
        return BYTES
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        return BYTES
    if pa.types.is_null(kind):
        return None
    raise ValueError(
        f"Column {field.name!r} of type {field.type} cannot be a feature of a tf.train.Example: those are integers, floats, "
        "bytes or strings, or lists of them."
    )


def _values(kind: str | None, value: Any) -> list[Any]:
    if isinstance(value, np.ndarray):
        value = value.ravel().tolist()
    values = value if isinstance(value, list) else [value]
    if kind == BYTES:
        return [item.encode() if isinstance(item, str) else item for item in values]
    return values
