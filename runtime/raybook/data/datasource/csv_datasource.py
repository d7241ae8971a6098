"""CSV files, read as a stream: pyarrow infers the types from the first megabyte of each file."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pyarrow as pa
from pyarrow import csv

from raybook.data.block import Block
from raybook.data.datasource.file_based_datasource import FileBasedDatasource


class CSVDatasource(FileBasedDatasource):
    """arrow_csv_args: `read_options`, `parse_options`, `convert_options` of pyarrow.csv."""

    _FILE_EXTENSIONS = ["csv"]

    def __init__(self, paths: Any, arrow_csv_args: dict[str, Any] | None = None, **file_args: Any) -> None:
        super().__init__(paths, **file_args)
        known = dict(arrow_csv_args or {})
        self.read_options = known.pop("read_options", None) or csv.ReadOptions(use_threads=False)
        self.parse_options = known.pop("parse_options", None) or csv.ParseOptions()
        # A handler is a function, and pyarrow's options leave it behind when they are pickled.
        self._invalid_row_handler = self.parse_options.invalid_row_handler
        self.arrow_csv_args = known

    def _read_stream(self, f: pa.NativeFile, path: str) -> Iterator[Block]:
        if self._invalid_row_handler is not None:
            self.parse_options.invalid_row_handler = self._invalid_row_handler
        try:
            reader = csv.open_csv(
                f, read_options=self.read_options, parse_options=self.parse_options, **self.arrow_csv_args
            )
            schema = None
            while True:
                try:
                    batch = reader.read_next_batch()
                except StopIteration:
                    break
                table = pa.Table.from_batches([batch], schema=schema)
                schema = schema or table.schema
                yield table
            if schema is None:
                yield reader.schema.empty_table()
        except pa.ArrowInvalid as error:
            raise ValueError(
                f"Failed to read CSV file: {path}. Please check the CSV file has correct format, or filter out non-CSV "
                f"file with 'partition_filter' field. See read_csv() documentation for more details. pyarrow says: {error}"
            ) from error
