"""``.npy`` files: the first axis is rows, in the column `data`."""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow as pa

from raybook.data.batches import from_columns
from raybook.data.block import Block
from raybook.data.datasource.file_based_datasource import FileBasedDatasource


class NumpyDatasource(FileBasedDatasource):
    """numpy_load_args: for `numpy.load`. allow_pickle: load arrays of objects, which can run code of whoever wrote them."""

    _COLUMN_NAME = "data"
    _FILE_EXTENSIONS = ["npy"]

    def __init__(
        self,
        paths: Any,
        numpy_load_args: dict[str, Any] | None = None,
        allow_pickle: bool = False,
        **file_args: Any,
    ) -> None:
        super().__init__(paths, **file_args)
        self.numpy_load_args = {**(numpy_load_args or {}), "allow_pickle": allow_pickle}

    def _read_stream(self, f: pa.NativeFile, path: str) -> Iterator[Block]:
        array = np.load(io.BytesIO(f.readall()), **self.numpy_load_args)
        yield from_columns({self._COLUMN_NAME: np.atleast_1d(array)})
