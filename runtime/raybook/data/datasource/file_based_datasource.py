"""Sources of files: one stream after the other, each giving blocks. Formats say how a stream is read.

Files are found on the driver when the dataset is made, so that a missing one is an error before any work; they are put
into groups of about the same size, one read task each. An error while reading names the file.
"""

from __future__ import annotations

import copy
import io
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from typing import Any, ClassVar

import pyarrow as pa

from raybook.data.batches import to_block
from raybook.data.block import Block, concat_blocks
from raybook.data.context import DataContext
from raybook.data.core.file_groups import group_by_size, shuffled
from raybook.data.datasource.datasource import Datasource, ReadTask
from raybook.data.datasource.file_meta_provider import BaseFileMetadataProvider, DefaultFileMetadataProvider
from raybook.data.datasource.optional import require
from raybook.data.datasource.partitioning import Partitioning, PathPartitionFilter, PathPartitionParser, add_partitions
from raybook.data.datasource.path_util import (
    compression_of,
    describe,
    has_extension,
    is_local,
    is_local_scheme,
    resolve_paths,
)
from raybook.data.datasource.retry import ATTEMPTS_MAX, back_off, call_with_retry, is_retried

PATH_COLUMN = "path"
"""What `include_paths` adds."""
CHUNK_BYTES_MIN = 1024 * 1024
"""Chunks smaller than this on average are put together: a copy at 10 GB/s is cheaper than operators' cost a chunk."""


@dataclass
class FileShuffleConfig:
    """Reads files in a random order. seed: for the same order again; None: another one each time.

    reseed_after_execution: each execution of the dataset draws anew (a different order every epoch, the same epochs for
    the same seed); False: all executions have the same order.
    """

    seed: int | None = None
    reseed_after_execution: bool = True

    def __post_init__(self) -> None:
        if self.seed is not None and not isinstance(self.seed, int):
            raise ValueError("Seed must be an integer or None.")

    def get_seed(self, execution_idx: int = 0) -> int | None:
        """The seed of the `execution_idx`-th execution."""
        if self.seed is None or not self.reseed_after_execution:
            return self.seed
        return hash((self.seed, execution_idx)) % 2**32


def check_shuffle(shuffle: Any) -> None:
    """ValueError unless None, "files" or a FileShuffleConfig."""
    if shuffle is not None and shuffle != "files" and not isinstance(shuffle, FileShuffleConfig):
        raise ValueError(
            f"Invalid value for 'shuffle': {shuffle}. Valid values are None, 'files', `FileShuffleConfig`."
        )


def in_order(pieces: list[Any], shuffle: Any, data_context: DataContext | None) -> list[Any]:
    """The pieces in the order that `shuffle` says."""
    if shuffle is None:
        return pieces
    execution = getattr(data_context, "_execution_idx", 0)
    return shuffled(pieces, shuffle.get_seed(execution) if isinstance(shuffle, FileShuffleConfig) else None)


class FileBasedDatasource(Datasource):
    """Base of sources that read files one by one. A subclass implements `_read_stream`, a generator of blocks.

    Arguments are those of the `read_*` functions. Raises FileNotFoundError for a path that is not there, and ValueError
    when nothing is left to read.
    """

    _FILE_EXTENSIONS: ClassVar[list[str] | str | None] = None
    _READ_AHEAD: ClassVar[int] = 8
    """Files of a remote store opened ahead of the one being read."""

    def __init__(
        self,
        paths: str | list[str],
        *,
        filesystem: Any = None,
        schema: Any = None,
        open_stream_args: dict[str, Any] | None = None,
        meta_provider: BaseFileMetadataProvider | None = None,
        partition_filter: PathPartitionFilter | None = None,
        partitioning: Partitioning | None = None,
        ignore_missing_paths: bool = False,
        shuffle: Any = None,
        include_paths: bool = False,
        file_extensions: list[str] | None = None,
    ) -> None:
        check_shuffle(shuffle)
        self._schema = schema
        self._open_stream_args = dict(open_stream_args or {})
        self._meta_provider = meta_provider or DefaultFileMetadataProvider()
        self._partitioning = partitioning
        self._ignore_missing_paths = ignore_missing_paths
        self._include_paths = include_paths
        self._shuffle = shuffle
        self._is_local_scheme = is_local_scheme(paths)
        roots, self._filesystem = resolve_paths(paths, filesystem)
        found = list(self._meta_provider.expand_paths(roots, self._filesystem, partitioning, ignore_missing_paths))
        if not found:
            more = " Paths that do not exist were left out, too, as ignore_missing_paths says."
            raise ValueError(
                f"No files found under {describe(roots)}. Names that begin with '_' or '.' are left out."
                + (more if ignore_missing_paths else "")
            )
        files = dict(found)
        if partition_filter is not None:
            files = {path: files[path] for path in partition_filter(list(files))}
            if not files:
                raise ValueError(
                    "No input files found to read. Please double check that 'partition_filter' field is set properly."
                )
        if file_extensions is not None:
            files = {path: size for path, size in files.items() if has_extension(path, file_extensions)}
            if not files:
                raise ValueError(
                    f"No input files found to read with the following file extensions: {file_extensions}. Please double "
                    "check that 'file_extensions' field is set properly."
                )
        self._files = files

    def _paths(self) -> list[str]:
        return list(self._files)

    def _file_sizes(self) -> list[int | None]:
        return list(self._files.values())

    @property
    def supports_distributed_reads(self) -> bool:
        return not self._is_local_scheme

    def estimate_inmemory_data_size(self) -> int | None:
        """The sum of the files' sizes times what the format usually grows by."""
        known = [size for size in self._files.values() if size is not None]
        return int(sum(known) * self._encoding_ratio()) if known else None

    def get_read_tasks(
        self, parallelism: int, per_task_row_limit: int | None = None, data_context: DataContext | None = None
    ) -> list[ReadTask]:
        files = in_order(list(self._files.items()), self._shuffle, data_context)
        groups = group_by_size(files, [size for _, size in files], parallelism)
        reader = self._for_tasks()
        tasks = []
        for group in groups:
            paths, sizes = [path for path, _ in group], [size for _, size in group]
            metadata = self._meta_provider(paths, rows_per_file=self._rows_per_file(), file_sizes=sizes)
            tasks.append(ReadTask(_read_function(reader, paths), metadata, self._known_schema(), per_task_row_limit))
        return tasks

    # What a format says.

    def _read_stream(self, f: pa.NativeFile, path: str) -> Iterator[Block]:
        """Blocks of one file."""
        raise NotImplementedError("Subclasses of FileBasedDatasource must implement _read_stream().")

    def _rows_per_file(self) -> int | None:
        """Rows that each file has, when the format says so."""
        return None

    def _encoding_ratio(self) -> float:
        """Bytes in memory for a byte in the file, roughly."""
        return 1.0

    def _known_schema(self) -> pa.Schema | None:
        return None

    def _gather(self, blocks: Iterator[Block]) -> Iterator[Block]:
        """Small blocks of many files put together."""
        return gather(blocks)

    def resolve_compression(self, path: str, open_args: dict[str, Any]) -> str | None:
        """The codec of a file: what `open_args` says, else by its name."""
        return open_args.get("compression") or compression_of(path)

    def _open_input_source(self, filesystem: Any, path: str, **open_args: Any) -> pa.NativeFile:
        """A stream over the file's decompressed bytes."""
        open_args = {**open_args, "compression": self.resolve_compression(path, open_args)}
        open_args.setdefault("buffer_size", DataContext.get_current().streaming_read_buffer_size)
        if is_local(filesystem):
            # The system reads ahead by itself; a buffer of 32 MiB for every small file costs more than the file.
            open_args.pop("buffer_size")
        if open_args["compression"] == "snappy":
            # pyarrow has the codec, and not the frames that files have.
            snappy = require("snappy", "python-snappy", f"Reading {path!r}")
            plain = io.BytesIO()
            with filesystem.open_input_stream(path, **{**open_args, "compression": None}) as stream:
                snappy.stream_decompress(src=stream, dst=plain)
            return pa.BufferReader(plain.getbuffer())
        return filesystem.open_input_stream(path, **open_args)

    # In a worker.

    def _for_tasks(self) -> FileBasedDatasource:
        """A copy without the list of files, which each task has its part of."""
        light = copy.copy(self)
        light._files = {}
        return light

    def _read_files(self, paths: list[str]) -> Iterator[Block]:
        """Blocks of these files, in order, with partitions and paths added. Runs in a task."""
        parse = PathPartitionParser(self._partitioning) if self._partitioning is not None else None
        return self._gather(self._finished(paths, parse))

    def _finished(self, paths: list[str], parse: PathPartitionParser | None) -> Iterator[Block]:
        for path, blocks in self._each_file(paths):
            values = parse(path) if parse is not None else {}
            for block in blocks:
                table = block if isinstance(block, pa.Table) else to_block(block)
                if values:
                    table = add_partitions(table, values)
                if self._include_paths:
                    table = with_path(table, path)
                yield table

    def _each_file(self, paths: list[str]) -> Iterator[tuple[str, Iterator[Block]]]:
        if is_local(self._filesystem) or len(paths) == 1:
            for path in paths:
                yield path, self._read_file(path)
            return
        # A remote store's latency is hidden by reading whole files ahead; each is small beside a block, or there would
        # not be many in one task.
        with ThreadPoolExecutor(self._READ_AHEAD) as threads:
            waiting = iter(paths)
            pending = [
                (path, threads.submit(list, self._read_file(path))) for path in islice(waiting, self._READ_AHEAD)
            ]
            while pending:
                path, future = pending.pop(0)
                yield path, iter(future.result())
                for following in islice(waiting, 1):
                    pending.append((following, threads.submit(list, self._read_file(following))))

    def _read_file(self, path: str) -> Iterator[Block]:
        """The blocks of one file; hiccups of the store are waited out, and begin again behind what was given."""
        given = failed = 0
        while True:
            try:
                opened = call_with_retry(
                    lambda: self._open_input_source(self._filesystem, path, **self._open_stream_args), f"open {path!r}"
                )
                with opened as stream:
                    for block in islice(self._read_stream(stream, path), given, None):
                        given += 1
                        yield block
                return
            except GeneratorExit:
                raise
            except Exception as error:
                failed += 1
                if failed < ATTEMPTS_MAX and is_retried(error, DataContext.get_current().retried_io_errors):
                    back_off(failed)
                    continue
                raise named(error, f"Reading {path!r} failed") from error


def _read_function(reader: FileBasedDatasource, paths: list[str]) -> Callable[[], Iterable[Block]]:
    return lambda: reader._read_files(paths)


def named(error: Exception, what: str) -> Exception:
    """The same kind of error with `what` in front, where a kind can be made of a text; else a RuntimeError."""
    if what.partition(" failed")[0] in str(error):
        return error
    message = f"{what}: {error}"
    for kind in type(error).__mro__:
        if kind in (ValueError, OSError, RuntimeError, TypeError, KeyError, pa.ArrowInvalid, ImportError):
            return kind(message)
    return RuntimeError(f"{what}: {type(error).__name__}: {error}")


def gather(blocks: Iterable[pa.Table], bytes_max: int | None = None) -> Iterator[pa.Table]:
    """Neighbouring small blocks of one schema as one, up to the target size of the context."""
    context = DataContext.get_current()
    limit = bytes_max or context.target_max_block_size or 2**62
    pending: list[pa.Table] = []
    size = 0
    for block in blocks:
        if not block.num_columns:
            # Rows without columns (a count after a projection) do not survive being put together.
            yield block
            continue
        nbytes = block.nbytes
        if pending and (size + nbytes > limit or not block.schema.equals(pending[0].schema)):
            yield combined(concat_blocks(pending))
            pending, size = [], 0
        pending.append(block)
        size += nbytes
    if pending:
        yield combined(concat_blocks(pending))


def combined(table: pa.Table) -> pa.Table:
    """The table with its chunks put together when they are many and small: each costs every later operator."""
    chunks = max((column.num_chunks for column in table.columns), default=0)
    return table.combine_chunks() if chunks > 1 and table.nbytes < chunks * CHUNK_BYTES_MIN else table


def with_path(table: pa.Table, path: str) -> pa.Table:
    """The table with the file it is from in a column `path`."""
    column = pa.repeat(pa.scalar(path), table.num_rows)
    index = table.schema.get_field_index(PATH_COLUMN)
    if index >= 0:
        return table.set_column(index, PATH_COLUMN, column)
    return table.append_column(PATH_COLUMN, column)
