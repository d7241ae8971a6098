"""Names of the files that a write makes. A retried task gets the same name again, and so replaces what it left."""

from __future__ import annotations

from typing import Any

import pyarrow as pa


class FilenameProvider:
    """Names from the write's id and the task's number; override `get_filename_for_task` for names of your own.

    dataset_uuid: put in front when given. file_format: the extension, without its dot.
    """

    def __init__(self, dataset_uuid: str | None = None, file_format: str | None = None) -> None:
        self.dataset_uuid, self.file_format = dataset_uuid, file_format

    def get_filename_for_task(self, write_uuid: str, task_index: int) -> str:
        """The name of a task's file; must depend on nothing but these two, and differ between tasks."""
        parts = [part for part in (getattr(self, "dataset_uuid", None), write_uuid, f"{task_index:06}") if part]
        name = "_".join(parts)
        file_format = getattr(self, "file_format", None)
        return f"{name}.{file_format}" if file_format else name

    def get_filename_for_block(self, block: pa.Table | None, write_uuid: str, task_index: int, block_index: int) -> str:
        """The older way to name a task's file; used when a subclass has it. block is None and block_index 0."""
        raise NotImplementedError

    def get_filename_for_row(
        self, row: dict[str, Any], write_uuid: str, task_index: int, block_index: int, row_index: int
    ) -> str:
        """The older way to name a row's file; used when a subclass has it."""
        raise NotImplementedError


def file_name(provider: FilenameProvider, write_uuid: str, task_index: int, file_index: int = 0) -> str:
    """The name of the `file_index`-th file of a task: the first has the task's name, later ones a number behind it."""
    overridden = type(provider).get_filename_for_block is not FilenameProvider.get_filename_for_block
    if overridden:
        name = provider.get_filename_for_block(None, write_uuid, task_index, file_index)
    else:
        name = provider.get_filename_for_task(write_uuid, task_index)
    if not file_index or overridden:
        return name
    base, extension = split_extension(name)
    return f"{base}_{file_index:06}{extension}"


def row_file_name(
    provider: FilenameProvider, row: dict[str, Any], write_uuid: str, task_index: int, row_index: int
) -> str:
    """The name of a row's own file."""
    if type(provider).get_filename_for_row is not FilenameProvider.get_filename_for_row:
        return provider.get_filename_for_row(row, write_uuid, task_index, 0, row_index)
    base, extension = split_extension(provider.get_filename_for_task(write_uuid, task_index))
    return f"{base}_{0:06}_{row_index:06}{extension}"


def split_extension(name: str) -> tuple[str, str]:
    """("a.b", ".csv") of "a.b.csv"."""
    base, dot, extension = name.rpartition(".")
    return (base, dot + extension) if dot else (name, "")
