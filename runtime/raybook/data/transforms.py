"""Transforms: what a map operator does with blocks, in a worker. A chain of them runs in one task, block by block.

`Transform.make` is called once in a process (an actor, or a task); what it returns is called for each task with an
iterator of blocks, and yields blocks. Nothing here knows of refs or plans.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from raybook.data.batches import ROWS_AT_ONCE, from_rows, is_frame, to_batch, to_block, to_rows
from raybook.data.block import concat_blocks
from raybook.data.context import DataContext
from raybook.data.datasource.task_context import TaskContext
from raybook.data.expression_evaluation import Evaluation
from raybook.data.expression_nodes import Expr
from raybook.data.functions import AsyncRunner, UserFunction, is_async
from raybook.data.grouping import partial_aggregate
from raybook.data.random_seed import block_rng
from raybook.data.udf_errors import short, user_error

Run = Callable[[Iterator[pa.Table], TaskContext], Iterator[pa.Table]]


class Transform:
    """One step of a chain."""

    def make(self) -> Run:
        raise NotImplementedError


class MapRows(Transform):
    """kind: "map" for a row of a row, "flat_map" for rows of a row, "filter" for a truth value of a row."""

    def __init__(self, function: UserFunction, kind: str) -> None:
        self.function, self.kind = function, kind

    def make(self) -> Run:
        fn = self.function.make()
        runner = AsyncRunner(fn) if is_async(fn) else None
        apply = {"map": self._map, "flat_map": self._flat_map, "filter": self._filter}[self.kind]

        def run(blocks: Iterator[pa.Table], context: TaskContext) -> Iterator[pa.Table]:
            seen = 0
            for block in blocks:
                for start in range(0, block.num_rows, ROWS_AT_ONCE):
                    piece = block.slice(start, ROWS_AT_ONCE)
                    rows = to_rows(piece)
                    results = self._call(fn, runner, rows, seen, context)
                    seen += len(rows)
                    yield from apply(piece, results)
                if not block.num_rows and self.kind == "filter":
                    yield block

        return run

    def _call(
        self, fn: Callable[[Any], Any], runner: AsyncRunner | None, rows: list[Any], seen: int, context: TaskContext
    ) -> list[Any]:
        results: list[Any] = []
        try:
            if runner is None:
                # On an exception what was appended stays, so its length says which row it was.
                results.extend(map(fn, rows))
            elif self.kind == "flat_map":
                results.extend(runner.results(rows))
            else:
                results.extend(made[0] for made in runner.results(rows))
        except Exception as error:
            raise self._error(error, rows, len(results), seen, context) from error
        return results

    def _error(
        self, error: BaseException, rows: list[Any], failed: int, seen: int, context: TaskContext
    ) -> BaseException:
        if DataContext.get_current().raise_original_map_exception:
            return error
        row = f": {short(rows[failed])}" if failed < len(rows) else ""
        return user_error(
            error,
            f"function `{self.function.name}` of {context.op_name}, row {seen + failed} of task {context.task_idx}{row}",
        )

    def _map(self, piece: pa.Table, results: list[Any]) -> Iterator[pa.Table]:
        if set(map(type, results)) != {dict}:
            for item in results:
                if not isinstance(item, Mapping):
                    raise _not_a_row(item)
            results = [item if type(item) is dict else dict(item) for item in results]
        yield from_rows(results)

    def _flat_map(self, piece: pa.Table, results: list[Any]) -> Iterator[pa.Table]:
        rows = []
        for made in results:
            if isinstance(made, Mapping) or not isinstance(made, Iterable):
                raise ValueError(
                    f"The function of flat_map must return a list of rows, and it returned {short(made)}. To make one "
                    "row of one row, use map."
                )
            for item in made:
                if not isinstance(item, Mapping):
                    raise _not_a_row(item)
                rows.append(item if type(item) is dict else dict(item))
        if rows:
            yield from_rows(rows)

    def _filter(self, piece: pa.Table, results: list[Any]) -> Iterator[pa.Table]:
        yield piece.filter(pa.array(np.fromiter(map(bool, results), bool, len(results))))


def _not_a_row(item: Any) -> ValueError:
    return ValueError(
        f"Error validating {short(item)}: Standalone Python objects are not allowed in Ray >= 2.5. To return Python "
        "objects from map(), wrap them in a dict, e.g., return `{'item': item}` instead of just `item`."
    )


class MapBatches(Transform):
    """batch_size: rows a call (None: a block as it comes). zero_copy_batch: the function may get read-only memory."""

    def __init__(
        self, function: UserFunction, batch_size: int | None, batch_format: str | None, zero_copy_batch: bool
    ) -> None:
        self.function, self.batch_size = function, batch_size
        self.batch_format, self.zero_copy_batch = batch_format, zero_copy_batch

    def make(self) -> Run:
        fn = self.function.make()
        runner = AsyncRunner(fn) if is_async(fn) else None

        def run(blocks: Iterator[pa.Table], context: TaskContext) -> Iterator[pa.Table]:
            number = 0
            if runner is not None:
                yield from self._run_async(runner, blocks, context)
                return
            for table in rebatch(blocks, self.batch_size):
                if not table.num_rows:
                    if not table.num_columns:
                        continue
                    yield from self._empty(fn, table)
                    continue
                batch = self._batch(table)
                try:
                    made = fn(batch)
                    for output in _outputs(made):
                        yield _checked_block(output)
                except _WrongOutput as error:
                    raise ValueError(str(error)) from None
                except Exception as error:
                    raise self._error(error, number, table, context) from error
                number += 1

        return run

    def _empty(self, fn: Callable[[Any], Any], table: pa.Table) -> Iterator[pa.Table]:
        """A block without rows: the function is not called, as it is with Ray."""
        return iter(())

    def _batch(self, table: pa.Table) -> Any:
        batch = to_batch(table, self.batch_format)
        if self.zero_copy_batch:
            return batch
        if isinstance(batch, dict):
            return {name: array if array.flags.writeable else np.array(array) for name, array in batch.items()}
        return batch.copy() if is_frame(batch) else batch

    def _run_async(self, runner: AsyncRunner, blocks: Iterator[pa.Table], context: TaskContext) -> Iterator[pa.Table]:
        tables = [table for table in rebatch(blocks, self.batch_size) if table.num_rows]
        try:
            for outputs in runner.results([self._batch(table) for table in tables]):
                for output in outputs:
                    yield _checked_block(output)
        except _WrongOutput as error:
            raise ValueError(str(error)) from None
        except Exception as error:
            raise self._error(error, 0, tables[0], context) from error

    def _error(self, error: Exception, number: int, table: pa.Table, context: TaskContext) -> BaseException:
        if DataContext.get_current().raise_original_map_exception:
            return error
        where = (
            f"function `{self.function.name}` of {context.op_name}, batch {number} of task {context.task_idx}, "
            f"{table.num_rows} rows of columns {table.column_names}"
        )
        return user_error(error, where)


class _WrongOutput(Exception):
    """The function returned what is no batch."""


def _outputs(made: Any) -> Iterable[Any]:
    """What a function returned: one batch, or a generator of them."""
    return made if isinstance(made, Iterator) else (made,)


def _checked_block(output: Any) -> pa.Table:
    if isinstance(output, pa.Table):
        return output
    if isinstance(output, list):
        raise _WrongOutput(
            f"Error validating {short(output)}: Returning a list of objects from `map_batches` is not allowed in Ray "
            "2.5. To return Python objects, wrap them in a named dict field, e.g., return `{'results': objects}` "
            "instead of just `objects`."
        )
    if isinstance(output, Mapping):
        for key, value in output.items():
            if not isinstance(value, (list, np.ndarray, pa.Array, pa.ChunkedArray)) and not hasattr(value, "__array__"):
                raise _WrongOutput(
                    f"Error validating {short(output)}: The `fn` you passed to `map_batches` returned a `dict`. "
                    "`map_batches` expects all `dict` values to be `list` or `np.ndarray` type, but the value "
                    f"corresponding to key {key!r} is of type {type(value)}. To fix this issue, convert the "
                    f"{type(value)} to a `np.ndarray`."
                )
    elif not (isinstance(output, (np.ndarray, pa.RecordBatch)) or is_frame(output)):
        raise _WrongOutput(
            f"The `fn` you passed to `map_batches` returned a value of type {type(output)}. This isn't allowed -- "
            "`map_batches` expects `fn` to return a `pandas.DataFrame`, `pyarrow.Table`, `numpy.ndarray`, `list`, or "
            "`dict[str, numpy.ndarray]`."
        )
    return to_block(output)


class FilterExpr(Transform):
    def __init__(self, condition: Expr) -> None:
        self.condition = condition

    def make(self) -> Run:
        def run(blocks: Iterator[pa.Table], context: TaskContext) -> Iterator[pa.Table]:
            evaluation = Evaluation(context.task_idx)
            for block in blocks:
                yield evaluation.filter(block, self.condition) if block.num_columns else block

        return run


class Project(Transform):
    """expressions: the columns of the output."""

    def __init__(self, expressions: Sequence[Expr]) -> None:
        self.expressions = tuple(expressions)

    def make(self) -> Run:
        def run(blocks: Iterator[pa.Table], context: TaskContext) -> Iterator[pa.Table]:
            evaluation = Evaluation(context.task_idx)
            for block in blocks:
                yield evaluation.project(block, self.expressions) if block.num_columns or block.num_rows else block

        return run


class TableFunction(Transform):
    """A function of ours from table to table, for steps that have no user's code: it must be importable or a partial."""

    def __init__(self, fn: Callable[[pa.Table], pa.Table]) -> None:
        self.fn = fn

    def make(self) -> Run:
        fn = self.fn

        def run(blocks: Iterator[pa.Table], context: TaskContext) -> Iterator[pa.Table]:
            return map(fn, blocks)

        return run


def select(table: pa.Table, columns: Sequence[str]) -> pa.Table:
    """These columns, in this order. KeyError naming those that are not there."""
    if not table.num_columns and not table.num_rows:
        return table
    missing = [name for name in columns if name not in table.column_names]
    if missing:
        raise KeyError(f"No columns {missing}. The block has these columns: {table.column_names}.")
    return table.select(list(columns))


def drop(table: pa.Table, columns: Sequence[str]) -> pa.Table:
    """All columns but these. KeyError naming those that are not there."""
    if not table.num_columns and not table.num_rows:
        return table
    missing = [name for name in columns if name not in table.column_names]
    if missing:
        raise KeyError(f"No columns {missing} to drop. The block has these columns: {table.column_names}.")
    return table.select([name for name in table.column_names if name not in set(columns)])


def rename(table: pa.Table, names: Sequence[str] | Mapping[str, str]) -> pa.Table:
    """New names, for all columns in order, or by old name."""
    if not table.num_columns and not table.num_rows:
        return table
    if isinstance(names, Mapping):
        missing = [name for name in names if name not in table.column_names]
        if missing:
            raise KeyError(f"No columns {missing} to rename. The block has these columns: {table.column_names}.")
        return table.rename_columns([names.get(name, name) for name in table.column_names])
    if len(names) != table.num_columns:
        raise ValueError(
            f"rename_columns got {len(names)} names for the {table.num_columns} columns {table.column_names}."
        )
    return table.rename_columns(list(names))


def rebatch(blocks: Iterator[pa.Table], batch_size: int | None) -> Iterator[pa.Table]:
    """Blocks cut and joined to exactly `batch_size` rows, the last one fewer; None: as they are. Rows are copied only
    where a batch spans blocks."""
    if batch_size is None:
        yield from blocks
        return
    kept: list[pa.Table] = []
    rows = 0
    last: pa.Table | None = None
    for block in blocks:
        last = block
        if not block.num_rows:
            continue
        start = 0
        while rows + block.num_rows - start >= batch_size:
            piece = block.slice(start, batch_size - rows)
            start += piece.num_rows
            yield concat_blocks([*kept, piece]) if kept else piece
            kept, rows = [], 0
        if start < block.num_rows:
            kept.append(block.slice(start))
            rows += block.num_rows - start
    if kept:
        yield concat_blocks(kept)
    elif last is not None and not last.num_rows:
        yield last


class RowSample(Transform):
    """Each row with a probability; with a seed the same rows in the same tasks."""

    def __init__(self, fraction: float, seed: Any) -> None:
        self.fraction, self.seed = fraction, seed

    def make(self) -> Run:
        def run(blocks: Iterator[pa.Table], context: TaskContext) -> Iterator[pa.Table]:
            rng = block_rng(self.seed, context.task_idx)
            for block in blocks:
                yield block.filter(pa.array(rng.random(block.num_rows) < self.fraction))

        return run


class RandomSide(Transform):
    """One side of a random split: both sides draw the same numbers, and take what the other leaves."""

    def __init__(self, share: float, seed: int, is_test: bool) -> None:
        self.share, self.seed, self.is_test = share, seed, is_test

    def make(self) -> Run:
        def run(blocks: Iterator[pa.Table], context: TaskContext) -> Iterator[pa.Table]:
            rng = block_rng(self.seed, context.task_idx)
            for block in blocks:
                yield block.filter(pa.array((rng.random(block.num_rows) < self.share) == self.is_test))

        return run


class PartialAggregate(Transform):
    """Each block's groups with their partial aggregates."""

    def __init__(self, keys: Sequence[str], aggregations: Sequence[Any]) -> None:
        self.keys, self.aggregations = tuple(keys), tuple(aggregations)

    def make(self) -> Run:
        def run(blocks: Iterator[pa.Table], context: TaskContext) -> Iterator[pa.Table]:
            for block in blocks:
                yield partial_aggregate(block, self.keys, self.aggregations)

        return run


class SplitEvenly(Transform):
    """All rows of a task in `pieces` blocks of equal length: for a read that has fewer tasks than blocks are wanted."""

    def __init__(self, pieces: int) -> None:
        self.pieces = pieces

    def make(self) -> Run:
        pieces = self.pieces

        def run(blocks: Iterator[pa.Table], context: TaskContext) -> Iterator[pa.Table]:
            whole = concat_blocks(blocks)
            for index in range(pieces):
                start, end = (whole.num_rows * bound // pieces for bound in (index, index + 1))
                yield whole.slice(start, end - start)

        return run
