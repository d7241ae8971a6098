"""ORC files, by pyarrow, a stripe at a time."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pyarrow as pa

from raybook.data.block import Block
from raybook.data.datasource.file_based_datasource import FileBasedDatasource


class ORCDatasource(FileBasedDatasource):
    """A row a row."""

    _FILE_EXTENSIONS = ["orc"]

    def _read_stream(self, f: pa.NativeFile, path: str) -> Iterator[Block]:
        from pyarrow import orc

        file = orc.ORCFile(f)
        if not file.nstripes:
            yield file.schema.empty_table()
        for stripe in range(file.nstripes):
            yield pa.Table.from_batches([file.read_stripe(stripe)])

    def _open_input_source(self, filesystem: Any, path: str, **open_args: Any) -> pa.NativeFile:
        # The footer is at the end: it needs a file that can seek.
        return filesystem.open_input_file(path)
