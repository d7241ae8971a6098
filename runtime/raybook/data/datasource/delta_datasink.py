"""Writing Delta Lake tables: tasks write Parquet files, and one commit in the log makes all of them part of the table.

Before the commit nobody sees the files, so a write that fails leaves the table as it was.
"""

from __future__ import annotations

import json
import posixpath
import time
import uuid
from collections.abc import Iterable
from typing import Any

import pyarrow as pa
from pyarrow import parquet as pq

from raybook.data.batches import to_block
from raybook.data.block import Block, concat_blocks, unify_schemas
from raybook.data.datasource.datasink import Datasink, WriteResult
from raybook.data.datasource.file_writing import write_file
from raybook.data.datasource.optional import require
from raybook.data.datasource.parquet_datasink import partitions
from raybook.data.datasource.path_util import is_local, resolve_paths
from raybook.data.datasource.save_mode import SaveMode
from raybook.data.datasource.task_context import TaskContext

WrittenFile = dict[str, Any]


class DeltaDatasink(Datasink[tuple[list[WrittenFile], "bytes | None"]]):
    """partition_by: columns that become folders. schema_mode: "merge" adds columns that the table lacks, "overwrite"
    (with mode OVERWRITE) takes the dataset's schema instead. Needs deltalake."""

    def __init__(
        self,
        path: str,
        *,
        mode: SaveMode | str = SaveMode.APPEND,
        partition_by: list[str] | None = None,
        storage_options: dict[str, str] | None = None,
        schema_mode: str = "merge",
        filesystem: Any = None,
        name: str | None = None,
        description: str | None = None,
    ) -> None:
        require("deltalake", "deltalake", "Writing Delta tables")
        self.mode = SaveMode(mode)
        if self.mode is SaveMode.UPSERT:
            raise NotImplementedError("write_delta has no mode 'upsert'. Nothing was written; use deltalake's `merge`.")
        if schema_mode not in ("merge", "overwrite", "error"):
            raise ValueError(f"schema_mode must be 'merge', 'overwrite' or 'error', got {schema_mode!r}.")
        self.uri, self.storage_options = str(path), storage_options
        (self.path,), self.filesystem = resolve_paths(path, filesystem)
        self.partition_by = list(partition_by or [])
        self.schema_mode, self.name, self.description = schema_mode, name, description
        self._skip_write = False
        self._is_prepared = False

    def get_name(self) -> str:
        return "Delta"

    @property
    def is_skipped(self) -> bool:
        return self._skip_write

    def prepare(self) -> None:
        """Look at what is there, and act by mode. Idempotent."""
        if self._is_prepared:
            return
        self._is_prepared = True
        if is_local(self.filesystem):
            # Delta's own name of a local table is its path.
            self.uri = self.path
        table = self._table()
        if table is None:
            return
        if self.mode in (SaveMode.ERROR, SaveMode.CREATE):
            raise ValueError(
                f"There is a Delta table at {self.uri} already, and mode={self.mode.value!r} does not touch it. Nothing was "
                "written. Use mode='append', 'overwrite' or 'ignore'."
            )
        self._skip_write = self.mode is SaveMode.IGNORE
        existing = list(table.metadata().partition_columns)
        if self.partition_by and existing != self.partition_by and self.mode is SaveMode.APPEND:
            raise ValueError(
                f"The Delta table at {self.uri} is partitioned by {existing}, and partition_by says {self.partition_by}. "
                "Nothing was written."
            )
        self.partition_by = self.partition_by or existing

    def _table(self) -> Any:
        import deltalake

        if not deltalake.DeltaTable.is_deltatable(self.uri, storage_options=self.storage_options):
            return None
        return deltalake.DeltaTable(self.uri, storage_options=self.storage_options)

    def on_write_start(self, schema: pa.Schema | None = None) -> None:
        self.prepare()

    def write(self, blocks: Iterable[Block], ctx: TaskContext) -> tuple[list[WrittenFile], bytes | None]:
        table = concat_blocks([to_block(block) for block in blocks])
        if self._skip_write or not table.num_rows:
            return [], None
        written = []
        for folder, rows, values in self._partitioned(table):
            name = f"part-{ctx.task_idx:05}-{uuid.uuid4()}.parquet"
            where = posixpath.join(self.path, folder) if folder else self.path
            if is_local(self.filesystem):
                self.filesystem.create_dir(where, recursive=True)
            path = posixpath.join(where, name)

            def fill(file: pa.NativeFile, rows: pa.Table = rows) -> None:
                pq.write_table(rows, file)

            write_file(self.filesystem, path, fill, {"compression": None})
            written.append(
                {
                    "path": posixpath.join(folder, name),
                    "size": self.filesystem.get_file_info(path).size,
                    "partition_values": values,
                    "modification_time": int(time.time() * 1000),
                    "data_change": True,
                    "stats": json.dumps({"numRecords": rows.num_rows}),
                }
            )
        return written, table.schema.remove_metadata().serialize().to_pybytes()

    def _partitioned(self, table: pa.Table) -> Iterable[tuple[str, pa.Table, dict[str, str | None]]]:
        missing = [name for name in self.partition_by if name not in table.column_names]
        if missing:
            raise ValueError(f"partition_by {missing} are not among the dataset's columns: {table.column_names}.")
        for folder, rows, values in partitions(table, self.partition_by):
            yield folder, rows, {name: None if value is None else _text(value) for name, value in values.items()}

    def on_write_complete(self, write_result: WriteResult[Any]) -> None:
        from deltalake import Schema, transaction

        if self._skip_write:
            return
        returned = [one for one in write_result.write_returns if one is not None]
        actions = [transaction.AddAction(**one) for files, _ in returned for one in files]
        schemas = [pa.ipc.read_schema(pa.py_buffer(data)) for _, data in returned if data is not None]
        if not schemas:
            return
        schema = unify_schemas(schemas) or schemas[0]
        table = self._table()
        partition_by = self.partition_by or None
        if table is None:
            transaction.create_table_with_add_actions(
                self.uri,
                Schema.from_arrow(schema),
                actions,
                mode="error",
                partition_by=partition_by,
                name=self.name,
                description=self.description,
                storage_options=self.storage_options,
            )
            return
        mode = "overwrite" if self.mode is SaveMode.OVERWRITE else "append"
        if not (mode == "overwrite" and self.schema_mode == "overwrite"):
            schema = self._merged(table, schema)
        table.create_write_transaction(actions, mode, schema, partition_by=partition_by)

    def _merged(self, table: Any, schema: pa.Schema) -> pa.Schema:
        """The table's schema with the dataset's new columns, which are added to it."""
        import deltalake

        existing = pa.schema(table.schema().to_arrow())
        new = [one for one in schema if one.name not in existing.names]
        if new and self.schema_mode == "error":
            raise ValueError(f"The Delta table at {self.uri} has no columns {[one.name for one in new]}.")
        if new:
            table.alter.add_columns(list(deltalake.Schema.from_arrow(pa.schema(new)).fields))
        return pa.schema([*existing, *new])


def _text(value: Any) -> str:
    """A value as the log has it."""
    return str(value).lower() if isinstance(value, bool) else str(value)
