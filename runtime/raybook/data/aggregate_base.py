"""Bases of aggregations: by functions, by a class, and by Arrow's own grouped functions."""

from __future__ import annotations

import abc
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import pyarrow as pa
import pyarrow.compute as pc

AccumulatorType = TypeVar("AccumulatorType")
AggOutputType = TypeVar("AggOutputType")


@dataclass(frozen=True)
class ArrowSteps:
    """partials: (Arrow's grouped function, options) computed of the column in each block; "count_all" of no column.
    merges: the grouped function that merges each partial. finish: the merged columns to the result."""

    partials: tuple[tuple[str, Any], ...]
    merges: tuple[tuple[str, Any], ...]
    finish: Callable[..., Any]


class AggregateFn:
    """An aggregation by functions: `init(key)` gives an accumulator, `accumulate_row` or `accumulate_block` adds to it,
    `merge` joins two, `finalize` makes the result."""

    def __init__(
        self,
        init: Callable[[Any], Any],
        merge: Callable[[Any, Any], Any],
        name: str,
        accumulate_row: Callable[[Any, dict[str, Any]], Any] | None = None,
        accumulate_block: Callable[[Any, pa.Table], Any] | None = None,
        finalize: Callable[[Any], Any] | None = None,
    ) -> None:
        if (accumulate_row is None) == (accumulate_block is None):
            raise ValueError("Exactly one of accumulate_row or accumulate_block must be provided.")
        if not isinstance(name, str):
            raise TypeError(f"`name` must be provided, got {name!r}.")
        self.name = name
        self.init, self.merge = init, merge
        self.accumulate_row, self._accumulate_block = accumulate_row, accumulate_block
        self.finalize = finalize if finalize is not None else same

    @property
    def column(self) -> str | None:
        """The one column it reads; None: it may read all of them."""
        return None

    def arrow_steps(self) -> ArrowSteps | None:
        return None

    def output_field(self, input_schema: pa.Schema) -> pa.Field | None:
        """The result's name and type for rows of this schema; None where only running it tells."""
        steps = self.arrow_steps()
        if steps is None or (self.column is not None and self.column not in input_schema.names):
            return None
        values = pa.nulls(0, input_schema.field(self.column).type) if self.column is not None else pa.nulls(0)
        table = pa.table({"key": pa.nulls(0, pa.int8()), "value": values})
        specs: list[Any] = [
            ("value" if function != "count_all" else [], function, *([o] if o else []))
            for function, o in steps.partials
        ]
        try:
            made = table.group_by("key", use_threads=False).aggregate(specs)
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError, pa.ArrowKeyError):
            return None
        parts = [column for name, column in zip(made.column_names, made.columns, strict=True) if name != "key"]
        return pa.field(self.name, steps.finish(*parts).type)

    def accumulate(self, accumulator: Any, block: pa.Table, rows: Callable[[pa.Table], Any]) -> Any:
        """Add a group's rows of one block. rows: makes dicts of a block."""
        if self._accumulate_block is not None:
            return self._accumulate_block(accumulator, block)
        assert self.accumulate_row is not None
        for row in rows(block):
            accumulator = self.accumulate_row(accumulator, row)
        return accumulator


def same(value: Any) -> Any:
    return value


class AggregateFnV2(AggregateFn, abc.ABC, Generic[AccumulatorType, AggOutputType]):
    """An aggregation as a class: `aggregate_block` makes an accumulator of a group's rows in one block, `combine` joins
    two, `finalize` makes the result. on: the column, None for the whole rows. ignore_nulls: an accumulator that is None
    does not count; if not, one None makes the result None."""

    def __init__(
        self, name: str, zero_factory: Callable[[], AccumulatorType], *, on: str | None, ignore_nulls: bool
    ) -> None:
        if not name:
            raise ValueError(f"Non-empty string has to be provided as name (got {name})")
        self.name = name
        self._name = name
        self._target_col_name, self._ignore_nulls = on, ignore_nulls
        self._zero = zero_factory
        self.init = _ZeroOf(zero_factory)

    def get_target_column(self) -> str | None:
        return self._target_col_name

    def get_agg_name(self) -> str:
        """ "sum" of "sum(x)"; an alias as it is."""
        return self.name.partition("(")[0]

    @property
    def column(self) -> str | None:
        return self._target_col_name

    @abc.abstractmethod
    def combine(self, current_accumulator: Any, new: Any) -> Any:
        """Two accumulators as one."""

    @abc.abstractmethod
    def aggregate_block(self, block: pa.Table) -> Any:
        """The accumulator of these rows; None when there is nothing to aggregate."""

    def finalize(self, accumulator: Any) -> Any:  # type: ignore[override]
        return accumulator

    def merge(self, first: Any, second: Any) -> Any:  # type: ignore[override]
        if is_missing(first) or is_missing(second):
            if self._ignore_nulls:
                return second if is_missing(first) else first
            return first if is_missing(first) else second
        return self.combine(first, second)

    def accumulate(self, accumulator: Any, block: pa.Table, rows: Any) -> Any:
        part = self.aggregate_block(block)
        # The zero is no value: merging with it would turn nulls into zeros.
        return part if isinstance(accumulator, _Zero) else self.merge(accumulator, part)


class _Zero:
    """Nothing has been accumulated yet."""


class _ZeroOf:
    def __init__(self, factory: Callable[[], Any]) -> None:
        self._factory = factory

    def __call__(self, key: Any = None) -> Any:
        return _Zero()


class VectorizedAggregateFnV2(AggregateFnV2[AccumulatorType, AggOutputType], abc.ABC):
    """One whose accumulators Arrow may combine many at a time; here the same as its base."""


def is_missing(value: Any) -> bool:
    return value is None


def skip_nulls(ignore_nulls: bool) -> pc.ScalarAggregateOptions:
    return pc.ScalarAggregateOptions(skip_nulls=ignore_nulls, min_count=1)


class ByArrow(AggregateFnV2[Any, Any]):
    """Base of those that Arrow computes. Their Python methods exist for code that calls them on a block of its own."""

    def __init__(self, kind: str, on: str | None, ignore_nulls: bool, alias_name: str | None) -> None:
        super().__init__(alias_name or f"{kind}({on})", lambda: None, on=on, ignore_nulls=ignore_nulls)
        if alias_name is not None and not isinstance(alias_name, str):
            raise TypeError(f"alias_name must be a string, got {alias_name!r}.")

    def _values(self, block: pa.Table) -> pa.ChunkedArray:
        assert self._target_col_name is not None
        return block.column(self._target_col_name)

    def _scalar(self, function: str, block: pa.Table, **options: Any) -> Any:
        values = self._values(block)
        return getattr(pc, function)(values, skip_nulls=self._ignore_nulls, min_count=1, **options).as_py()
