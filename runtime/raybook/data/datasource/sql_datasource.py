"""Databases by Python's DB API 2: one query, one task; or one task a share of the rows, told apart by a hash of keys."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from raybook.data.block import Block, BlockMetadata
from raybook.data.columns import to_arrow
from raybook.data.datasource.datasink import Datasink
from raybook.data.datasource.datasource import Datasource, ReadTask
from raybook.data.datasource.task_context import TaskContext

if TYPE_CHECKING:
    from raybook.data.context import DataContext

Connection = Any
Cursor = Any

ROWS_AT_ONCE = 65_536
ROWS_OF_A_TASK_MIN = 50


@contextmanager
def connected(connection_factory: Callable[[], Connection]) -> Iterator[Cursor]:
    """A cursor of a new connection; committed at the end, rolled back on an error, closed in any case. ValueError when
    what the factory returns is no connection of the DB API."""
    connection = connection_factory()
    _check("connection", connection, ("close", "commit", "cursor"))
    try:
        cursor = connection.cursor()
        _check("cursor", cursor, ("execute", "executemany", "fetchone", "fetchall", "description"))
        yield cursor
        connection.commit()
    except BaseException:
        # Some databases have no transactions, and the error that matters is the first.
        with suppress(Exception):
            connection.rollback()
        raise
    finally:
        connection.close()


def _check(what: str, value: Any, names: tuple[str, ...]) -> None:
    for name in names:
        if not hasattr(value, name):
            raise ValueError(
                f"Your `connection_factory` created a {what} ({type(value).__name__}) without {name!r}, which Python's DB "
                "API 2.0 requires (https://peps.python.org/pep-0249/). Check that your database connector follows it."
            )


def _execute(cursor: Cursor, sql: str, params: Any) -> None:
    if params is None:
        cursor.execute(sql)
    else:
        cursor.execute(sql, params)


def _rows(cursor: Cursor) -> Iterable[pa.Table]:
    """The result in blocks."""
    names = [column[0] for column in cursor.description]
    many = getattr(cursor, "fetchmany", None)
    first = True
    while True:
        rows = many(ROWS_AT_ONCE) if many is not None else cursor.fetchall()
        if rows or first:
            columns = list(zip(*rows, strict=True)) if rows else [()] * len(names)
            yield pa.table(
                [to_arrow(list(column), name) for name, column in zip(names, columns, strict=True)], names=names
            )
        first = False
        if many is None or len(rows) < ROWS_AT_ONCE:
            return


class SQLDatasource(Datasource):
    """sql: the query. connection_factory: makes a connection, in the worker. sql_params: for `execute`. shard_keys: columns
    whose hash tells tasks' rows apart. shard_hash_fn: the database's hash function of text."""

    def __init__(
        self,
        sql: str,
        connection_factory: Callable[[], Connection],
        shard_hash_fn: str = "MD5",
        shard_keys: list[str] | None = None,
        sql_params: Any = None,
    ) -> None:
        self.sql, self.connection_factory, self.sql_params = sql, connection_factory, sql_params
        self.shard_hash_fn = shard_hash_fn
        keys = list(shard_keys or [])
        self.shard_keys = f"CONCAT({','.join(keys)})" if len(keys) > 1 else keys[0] if keys else None

    def get_name(self) -> str:
        return "SQL"

    def estimate_inmemory_data_size(self) -> int | None:
        return None

    def supports_sharding(self, parallelism: int) -> bool:
        """Whether the database can tell shares apart: tried with a query."""
        if parallelism <= 1 or self.shard_keys is None:
            return False
        try:
            self._ask(f"SELECT COUNT(1) FROM ({self.sql}) as T WHERE {self._share(0, parallelism)}")
        except Exception:  # noqa: BLE001  # every database has errors of its own, and they all mean no
            return False
        return True

    def get_read_tasks(
        self, parallelism: int, per_task_row_limit: int | None = None, data_context: DataContext | None = None
    ) -> list[ReadTask]:
        read = partial(_query, self.connection_factory, self.sql_params)
        if not self.supports_sharding(parallelism):
            return [ReadTask(partial(read, self.sql), BlockMetadata(None, None), None, per_task_row_limit)]
        total = self._ask(f"SELECT COUNT(*) FROM ({self.sql}) as T")
        shares = max(1, min(parallelism, math.ceil(total / ROWS_OF_A_TASK_MIN)))
        queries = [f"SELECT * FROM ({self.sql}) as T WHERE {self._share(one, shares)}" for one in range(shares)]
        return [
            ReadTask(partial(read, query), BlockMetadata(None, None), None, per_task_row_limit) for query in queries
        ]

    def _share(self, index: int, count: int) -> str:
        return f"MOD(ABS({self.shard_hash_fn}({self.shard_keys})), {count}) = {index}"

    def _ask(self, query: str) -> Any:
        with connected(self.connection_factory) as cursor:
            _execute(cursor, query, self.sql_params)
            return cursor.fetchone()[0]


def _query(connection_factory: Callable[[], Connection], params: Any, sql: str) -> Iterable[Block]:
    with connected(connection_factory) as cursor:
        _execute(cursor, sql, params)
        yield from _rows(cursor)


class SQLDatasink(Datasink[None]):
    """sql: an INSERT with a placeholder a column, as the database writes them."""

    def __init__(self, sql: str, connection_factory: Callable[[], Connection]) -> None:
        self.sql, self.connection_factory = sql, connection_factory

    def get_name(self) -> str:
        return "SQL"

    def write(self, blocks: Iterable[Block], ctx: TaskContext) -> None:
        with connected(self.connection_factory) as cursor:
            for block in blocks:
                for start in range(0, block.num_rows, ROWS_AT_ONCE):
                    columns = [column.to_pylist() for column in block.slice(start, ROWS_AT_ONCE).columns]
                    cursor.executemany(self.sql, list(zip(*columns, strict=True)))
