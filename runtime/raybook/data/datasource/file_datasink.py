"""Sinks of files: one file a write task, or one a row; what is there already is handled by mode, before any work."""

from __future__ import annotations

import logging
import posixpath
import uuid
from collections.abc import Iterable, Iterator
from functools import partial
from typing import Any

import pyarrow as pa
from pyarrow import fs as pafs

from raybook.data.batches import to_block
from raybook.data.block import Block, concat_blocks
from raybook.data.block_accessor import BlockAccessor
from raybook.data.context import DataContext
from raybook.data.datasource.datasink import Datasink, WriteResult
from raybook.data.datasource.file_writing import write_file
from raybook.data.datasource.filename_provider import FilenameProvider, file_name, row_file_name
from raybook.data.datasource.path_util import is_local_scheme, resolve_paths
from raybook.data.datasource.retry import call_with_retry
from raybook.data.datasource.save_mode import SaveMode
from raybook.data.datasource.task_context import TaskContext

logger = logging.getLogger(__name__)

WRITE_UUID = "write_uuid"
"""Key in a task's `kwargs`."""


class _FileDatasink(Datasink[None]):
    """A folder that gets files.

    mode: APPEND adds files to the folder, OVERWRITE empties it first, IGNORE writes nothing when it is there, ERROR and
    CREATE raise ValueError then. Raises ValueError for a mode that files do not have.
    """

    def __init__(
        self,
        path: str,
        *,
        filesystem: Any = None,
        try_create_dir: bool = True,
        open_stream_args: dict[str, Any] | None = None,
        filename_provider: FilenameProvider | None = None,
        dataset_uuid: str | None = None,
        file_format: str | None = None,
        mode: SaveMode | str = SaveMode.APPEND,
    ) -> None:
        self.mode = check_mode(mode)
        self.unresolved_path = str(path)
        self._is_local_scheme = is_local_scheme(path)
        (self.path,), self.filesystem = resolve_paths(path, filesystem)
        self.try_create_dir = try_create_dir
        self.open_stream_args = dict(open_stream_args or {})
        self.filename_provider = filename_provider or FilenameProvider(dataset_uuid, file_format)
        self.dataset_uuid, self.file_format = dataset_uuid, file_format
        self.write_uuid = uuid.uuid4().hex
        self.has_created_dir = False
        self._skip_write = False
        self._is_prepared = False

    @property
    def supports_distributed_writes(self) -> bool:
        return not self._is_local_scheme

    @property
    def is_skipped(self) -> bool:
        """Whether there is nothing to do, as mode IGNORE decided in `prepare`."""
        return self._skip_write

    def prepare(self) -> None:
        """Look at what is there, and act by mode; make the folder. Idempotent: `write_*` calls it before the dataset
        runs, so that a refusal costs nothing."""
        if self._is_prepared:
            return
        self._is_prepared = True
        kind = call_with_retry(lambda: self.filesystem.get_file_info(self.path).type, f"look up {self.path!r}")
        if kind is not pafs.FileType.NotFound:
            if self.mode in (SaveMode.ERROR, SaveMode.CREATE):
                raise ValueError(
                    f"Path {self.path} already exists, and mode={self.mode.value!r} does not touch it. Nothing was written. "
                    "If this is unexpected, use mode='ignore' to leave it as it is, 'overwrite' to replace it or 'append' "
                    "to add files."
                )
            if self.mode is SaveMode.IGNORE:
                logger.warning("%s is there already, and mode='ignore' writes nothing.", self.path)
                self._skip_write = True
                return
            if self.mode is SaveMode.OVERWRITE:
                self._empty(kind)
        self._make_folder()

    def _empty(self, kind: pafs.FileType) -> None:
        if kind is pafs.FileType.Directory:
            call_with_retry(lambda: self.filesystem.delete_dir_contents(self.path), f"empty {self.path!r}")
        else:
            self.filesystem.delete_file(self.path)

    def _make_folder(self) -> None:
        is_store = self.filesystem.type_name == "s3"
        if not self.try_create_dir or (is_store and not DataContext.get_current().s3_try_create_dir):
            return
        if self.filesystem.get_file_info(self.path).type is pafs.FileType.NotFound:
            call_with_retry(lambda: self.filesystem.create_dir(self.path, recursive=True), f"make {self.path!r}")
            self.has_created_dir = True

    def on_write_start(self, schema: pa.Schema | None = None) -> None:
        self.prepare()

    def write(self, blocks: Iterable[Block], ctx: TaskContext) -> None:
        if self._skip_write:
            return
        table = concat_blocks([to_block(block) for block in blocks])
        if table.num_rows:
            self.write_table(table, ctx)

    def write_table(self, table: pa.Table, ctx: TaskContext) -> None:
        """Write all rows of one task."""
        self.write_block(BlockAccessor(table), 0, ctx)

    def write_block(self, block: BlockAccessor, block_index: int, ctx: TaskContext) -> None:
        raise NotImplementedError

    def open_output_stream(self, path: str) -> pa.NativeFile:
        """A stream into the file; `write_file` does more."""
        return self.filesystem.open_output_stream(path, **self.open_stream_args)

    def on_write_complete(self, write_result: WriteResult[None]) -> None:
        if self.has_created_dir and write_result.num_rows == 0:
            self.filesystem.delete_dir(self.path)

    def _uuid(self, ctx: TaskContext) -> str:
        return ctx.kwargs.get(WRITE_UUID, self.write_uuid)


class RowBasedFileDatasink(_FileDatasink):
    """Base of sinks that write a file a row: implement `write_row_to_file(row, file)`."""

    def write_row_to_file(self, row: dict[str, Any], file: pa.NativeFile) -> None:
        """Write one row. file: a stream of bytes."""
        raise NotImplementedError

    def write_block(self, block: BlockAccessor, block_index: int, ctx: TaskContext) -> None:
        for row_index, row in enumerate(block.iter_rows()):
            name = row_file_name(self.filename_provider, row, self._uuid(ctx), ctx.task_idx, row_index)
            path = posixpath.join(self.path, name)
            write_file(self.filesystem, path, partial(self.write_row_to_file, row), self.open_stream_args)


class BlockBasedFileDatasink(_FileDatasink):
    """Base of sinks that write a file a task: implement `write_block_to_file(block, file)`.

    min_rows_per_file: rows are gathered until there are so many; the last file may have fewer.
    """

    def __init__(self, path: str, *, min_rows_per_file: int | None = None, **file_datasink_kwargs: Any) -> None:
        check_rows("min_rows_per_file", min_rows_per_file)
        super().__init__(path, **file_datasink_kwargs)
        self._min_rows_per_file = min_rows_per_file

    @property
    def min_rows_per_write(self) -> int | None:
        return self._min_rows_per_file

    def write_block_to_file(self, block: BlockAccessor, file: pa.NativeFile) -> None:
        """Write all rows of the block. file: a stream of bytes."""
        raise NotImplementedError

    def write_block(self, block: BlockAccessor, block_index: int, ctx: TaskContext) -> None:
        path = posixpath.join(self.path, file_name(self.filename_provider, self._uuid(ctx), ctx.task_idx, block_index))
        write_file(self.filesystem, path, lambda file: self.write_block_to_file(block, file), self.open_stream_args)


def check_mode(mode: SaveMode | str) -> SaveMode:
    """The mode as a `SaveMode`. ValueError for one that files do not have."""
    try:
        found = SaveMode(mode)
    except ValueError:
        found = None
    if found is None or found is SaveMode.UPSERT:
        known = [one.value for one in SaveMode if one is not SaveMode.UPSERT]
        raise ValueError(f"mode must be one of {known} when writing files, got {mode!r}.")
    return found


def check_rows(name: str, value: int | None) -> None:
    """ValueError unless None or a positive number."""
    if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value <= 0):
        raise ValueError(f"{name} must be a positive integer or None, got {value!r}.")


def slices(table: pa.Table, rows_max: int | None) -> Iterator[pa.Table]:
    """The table in even pieces of at most `rows_max` rows."""
    if rows_max is None or table.num_rows <= rows_max:
        yield table
        return
    count = -(-table.num_rows // rows_max)
    for index in range(count):
        start = table.num_rows * index // count
        yield table.slice(start, table.num_rows * (index + 1) // count - start)
