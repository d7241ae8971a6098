"""Avro files, by fastavro."""

from __future__ import annotations

import io
from collections.abc import Iterator
from itertools import islice
from typing import Any

import pyarrow as pa

from raybook.data.batches import from_rows
from raybook.data.block import Block
from raybook.data.datasource.file_based_datasource import FileBasedDatasource
from raybook.data.datasource.optional import require

ROWS_AT_ONCE = 16_384
MAGIC = b"Obj\x01"


class AvroDatasource(FileBasedDatasource):
    """A row a record."""

    _FILE_EXTENSIONS = ["avro"]

    def __init__(self, paths: Any, **file_args: Any) -> None:
        require("fastavro", "fastavro", "Reading Avro")
        super().__init__(paths, **file_args)

    def _read_stream(self, f: pa.NativeFile, path: str) -> Iterator[Block]:
        import fastavro

        stream = io.BufferedReader(f)
        if stream.peek(4)[:4] != MAGIC:
            raise ValueError(f"{path!r} is no Avro file: it does not begin with {MAGIC!r}.")
        try:
            records: Iterator[Any] = iter(fastavro.reader(stream))
            while rows := list(islice(records, ROWS_AT_ONCE)):
                yield from_rows(rows)
        except (ValueError, EOFError, IndexError) as error:
            raise ValueError(f"{path!r} is a damaged Avro file: {error}") from error
