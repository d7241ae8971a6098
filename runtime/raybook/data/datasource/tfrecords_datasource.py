"""TFRecord files of `tf.train.Example`: a row a record, a column a feature. No TensorFlow is needed."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pyarrow as pa

from raybook.data.block import Block
from raybook.data.core.tf_example import (
    BYTES,
    FLOAT,
    FOOTER_BYTES,
    HEADER_BYTES,
    INT,
    Malformed,
    decode_example,
    record_length,
)
from raybook.data.datasource.file_based_datasource import FileBasedDatasource

RECORDS_AT_ONCE = 4096
_TYPES = {BYTES: pa.binary(), FLOAT: pa.float32(), INT: pa.int64(), None: pa.null()}
_SCHEMA_KINDS = {1: BYTES, 2: INT, 3: FLOAT}
"""Numbers of tensorflow_metadata's FeatureType."""

Features = dict[str, tuple["str | None", list[Any]]]


class TFRecordDatasource(FileBasedDatasource):
    """tf_schema: a tensorflow_metadata Schema (`feature` with `name` and `type`); with one every feature is a list, and
    features that it does not name are an error. Without one, a feature that has one value in every record is that value."""

    _FILE_EXTENSIONS = ["tfrecords"]

    def __init__(self, paths: Any, tf_schema: Any = None, **file_args: Any) -> None:
        super().__init__(paths, **file_args)
        self._kinds = None
        if tf_schema is not None:
            self._kinds = {feature.name: _SCHEMA_KINDS.get(int(feature.type)) for feature in tf_schema.feature}

    def get_name(self) -> str:
        return "TFRecord"

    def _read_stream(self, f: pa.NativeFile, path: str) -> Iterator[Block]:
        rows: list[Features] = []
        for record in _records(f, path):
            rows.append(record)
            if len(rows) == RECORDS_AT_ONCE:
                yield self._table(rows)
                rows = []
        if rows:
            yield self._table(rows)

    def _table(self, rows: list[Features]) -> pa.Table:
        names: dict[str, None] = {}
        for row in rows:
            names.update(dict.fromkeys(row))
        columns = {}
        for name in names:
            cells = [row.get(name) for row in rows]
            kind = self._kind(name, {cell[0] for cell in cells if cell is not None and cell[0] is not None})
            lists = [None if cell is None else cell[1] for cell in cells]
            if self._kinds is None and all(values is None or len(values) == 1 for values in lists):
                columns[name] = pa.array([None if values is None else values[0] for values in lists], _TYPES[kind])
            else:
                columns[name] = pa.array(lists, pa.list_(_TYPES[kind]))
        return pa.table(columns)

    def _kind(self, name: str, found: set[str]) -> str | None:
        if len(found) > 1:
            raise ValueError(f"Feature {name!r} is of kinds {sorted(found)} in one file.")
        kind = next(iter(found), None)
        if self._kinds is None:
            return kind
        if name not in self._kinds:
            raise ValueError(f"Found extra unexpected feature {name} not in specified schema: {list(self._kinds)}")
        told = self._kinds[name]
        if kind is not None and told != kind:
            raise ValueError(
                f"Schema field type mismatch during read of {name!r}: specified type is {told}, but underlying type is "
                f"{kind}"
            )
        return told


def _records(f: pa.NativeFile, path: str) -> Iterator[Features]:
    done = 0
    try:
        while True:
            header = f.read(HEADER_BYTES)
            if not header:
                return
            length = record_length(header)
            data = f.read(length)
            if len(data) != length or len(f.read(FOOTER_BYTES)) != FOOTER_BYTES:
                raise Malformed(f"the file ends within a record of {length} bytes")
            yield decode_example(data)
            done += 1
    except Malformed as error:
        raise ValueError(
            f"Failed to read TFRecord file {path!r} behind {done} records: {error}. The file is damaged, compressed (pass "
            "arrow_open_stream_args={'compression': 'gzip'}), or no TFRecord file of tf.train.Example."
        ) from error
