"""Sinks of CSV, JSON, ORC, numpy and image files: a format's own writer, and what it cannot write said by column."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pyarrow as pa
from pyarrow import csv

from raybook.data.block_accessor import BlockAccessor
from raybook.data.columns import to_numpy
from raybook.data.datasource.file_datasink import BlockBasedFileDatasink, RowBasedFileDatasink
from raybook.data.datasource.optional import require

ArgumentsMaker = Callable[[], dict[str, Any]]


class CSVDatasink(BlockBasedFileDatasink):
    """arrow_csv_args: `write_options` of pyarrow.csv, or fields of them; arrow_csv_args_fn makes more in the worker."""

    def __init__(
        self,
        path: str,
        *,
        arrow_csv_args_fn: ArgumentsMaker | None = None,
        arrow_csv_args: dict[str, Any] | None = None,
        file_format: str = "csv",
        **file_args: Any,
    ) -> None:
        super().__init__(path, file_format=file_format, **file_args)
        self.arrow_csv_args_fn, self.arrow_csv_args = arrow_csv_args_fn or dict, dict(arrow_csv_args or {})

    def write_block_to_file(self, block: BlockAccessor, file: pa.NativeFile) -> None:
        table = block.to_arrow()
        try:
            csv.write_csv(table, file, **{**self.arrow_csv_args, **self.arrow_csv_args_fn()})
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
            nested = [field.name for field in table.schema if pa.types.is_nested(field.type) or _is_extension(field)]
            raise ValueError(
                f"CSV has no way to write columns {nested or table.column_names} ({error}). Drop them, turn them into "
                "text with `map`, or write Parquet or JSON."
            ) from error


class JSONDatasink(BlockBasedFileDatasink):
    """Lines of objects. pandas_json_args: of `pandas.DataFrame.to_json`; pandas_json_args_fn makes more in the worker."""

    def __init__(
        self,
        path: str,
        *,
        pandas_json_args_fn: ArgumentsMaker | None = None,
        pandas_json_args: dict[str, Any] | None = None,
        file_format: str = "json",
        **file_args: Any,
    ) -> None:
        super().__init__(path, file_format=file_format, **file_args)
        self.pandas_json_args_fn, self.pandas_json_args = pandas_json_args_fn or dict, dict(pandas_json_args or {})

    def write_block_to_file(self, block: BlockAccessor, file: pa.NativeFile) -> None:
        options = {"orient": "records", **self.pandas_json_args, **self.pandas_json_args_fn()}
        options.setdefault("lines", options["orient"] == "records")
        text = block.to_pandas().to_json(None, **options)
        file.write(text.encode())


class ORCDatasink(BlockBasedFileDatasink):
    """arrow_orc_args: of `pyarrow.orc.write_table`; arrow_orc_args_fn makes more in the worker."""

    def __init__(
        self,
        path: str,
        *,
        arrow_orc_args_fn: ArgumentsMaker | None = None,
        arrow_orc_args: dict[str, Any] | None = None,
        file_format: str = "orc",
        **file_args: Any,
    ) -> None:
        super().__init__(path, file_format=file_format, **file_args)
        self.arrow_orc_args_fn, self.arrow_orc_args = arrow_orc_args_fn or dict, dict(arrow_orc_args or {})

    def write_block_to_file(self, block: BlockAccessor, file: pa.NativeFile) -> None:
        from pyarrow import orc

        orc.write_table(block.to_arrow(), file, **{**self.arrow_orc_args, **self.arrow_orc_args_fn()})


class NumpyDatasink(BlockBasedFileDatasink):
    """One column as ``.npy`` files."""

    def __init__(self, path: str, column: str, *, file_format: str = "npy", **file_args: Any) -> None:
        super().__init__(path, file_format=file_format, **file_args)
        self.column = column

    def on_write_start(self, schema: pa.Schema | None = None) -> None:
        if schema is not None:
            check_column(self.column, schema.names)
        super().on_write_start(schema)

    def write_block_to_file(self, block: BlockAccessor, file: pa.NativeFile) -> None:
        check_column(self.column, block.column_names())
        np.save(file, to_numpy(block.to_arrow().column(self.column)))


class ImageDatasink(RowBasedFileDatasink):
    """One column of arrays as image files, a file a row. file_format: "png", "jpeg", ..."""

    def __init__(self, path: str, column: str, file_format: str = "png", **file_args: Any) -> None:
        require("PIL", "pillow", "Writing images")
        super().__init__(path, file_format=file_format, **file_args)
        self.column, self.image_format = column, file_format

    def on_write_start(self, schema: pa.Schema | None = None) -> None:
        if schema is not None:
            check_column(self.column, schema.names)
        super().on_write_start(schema)

    def write_row_to_file(self, row: dict[str, Any], file: pa.NativeFile) -> None:
        from PIL import Image

        check_column(self.column, list(row))
        image = Image.fromarray(np.asarray(row[self.column]))
        # Pillow knows the format JPEG, and people say jpg.
        Image.Image.save(image, file, format={"jpg": "jpeg", "tif": "tiff"}.get(self.image_format, self.image_format))


def check_column(column: str, names: list[str]) -> None:
    """ValueError for a column that is not there."""
    if column not in names:
        raise ValueError(f"Column {column!r} is not in the dataset, which has {names}. Nothing was written.")


def _is_extension(field: pa.Field) -> bool:
    return isinstance(field.type, pa.BaseExtensionType)
