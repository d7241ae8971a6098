"""Which files a read has, and how large they are; replaceable for stores that know it without looking."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from raybook.data.block import BlockMetadata
from raybook.data.datasource.partitioning import Partitioning
from raybook.data.datasource.path_util import expand


class FileMetadataProvider:
    """Says what is known of a read task's files."""

    def _get_block_metadata(self, paths: list[str], **kwargs: Any) -> BlockMetadata:
        raise NotImplementedError

    def __call__(self, paths: list[str], **kwargs: Any) -> BlockMetadata:
        return self._get_block_metadata(paths, **kwargs)


class BaseFileMetadataProvider(FileMetadataProvider):
    """Finds a read's files, too."""

    def expand_paths(
        self,
        paths: list[str],
        filesystem: Any,
        partitioning: Partitioning | None = None,
        ignore_missing_paths: bool = False,
    ) -> Iterator[tuple[str, int | None]]:
        """(path, size in bytes or None) of each file under the paths."""
        raise NotImplementedError


class DefaultFileMetadataProvider(BaseFileMetadataProvider):
    """Lists folders, and takes sizes on disk for sizes in memory."""

    def expand_paths(
        self,
        paths: list[str],
        filesystem: Any,
        partitioning: Partitioning | None = None,
        ignore_missing_paths: bool = False,
    ) -> Iterator[tuple[str, int | None]]:
        return expand(paths, filesystem, ignore_missing_paths)

    def _get_block_metadata(self, paths: list[str], **kwargs: Any) -> BlockMetadata:
        rows_per_file, sizes = kwargs.get("rows_per_file"), kwargs.get("file_sizes") or [None]
        rows = None if rows_per_file is None else len(paths) * rows_per_file
        size = None if any(one is None for one in sizes) else int(sum(sizes))
        return BlockMetadata(rows, size, None, list(paths))
