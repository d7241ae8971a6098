"""Files as they are, a row a file, in the column `bytes`."""

from __future__ import annotations

from collections.abc import Iterator

import pyarrow as pa

from raybook.data.block import Block
from raybook.data.datasource.file_based_datasource import FileBasedDatasource


class BinaryDatasource(FileBasedDatasource):
    """Whatever is in the files."""

    _COLUMN_NAME = "bytes"

    def _read_stream(self, f: pa.NativeFile, path: str) -> Iterator[Block]:
        yield pa.table({self._COLUMN_NAME: pa.array([f.readall()], pa.binary())})

    def _rows_per_file(self) -> int:
        return 1
