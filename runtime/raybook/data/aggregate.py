"""Aggregations: what `groupby().aggregate(...)` and `Dataset.aggregate(...)` take, and the bases for your own.

The common ones say how Arrow computes them (`ArrowSteps`): partly in each block, then of the parts. All others are run
by their Python methods on the rows of each group: correct for anything, and a thousand times slower.
"""

from __future__ import annotations

import abc
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from raybook.data.columns import to_list

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
        self.finalize = finalize if finalize is not None else _same

    @property
    def column(self) -> str | None:
        """The one column it reads; None: it may read all of them."""
        return None

    def arrow_steps(self) -> ArrowSteps | None:
        return None

    def accumulate(self, accumulator: Any, block: pa.Table, rows: Callable[[pa.Table], Any]) -> Any:
        """Add a group's rows of one block. rows: makes dicts of a block."""
        if self._accumulate_block is not None:
            return self._accumulate_block(accumulator, block)
        assert self.accumulate_row is not None
        for row in rows(block):
            accumulator = self.accumulate_row(accumulator, row)
        return accumulator


def _same(value: Any) -> Any:
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
        return type(self).__name__

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


def _skip(ignore_nulls: bool) -> pc.ScalarAggregateOptions:
    return pc.ScalarAggregateOptions(skip_nulls=ignore_nulls, min_count=1)


class _ByArrow(AggregateFnV2[Any, Any]):
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


class Count(_ByArrow):
    """Number of rows, or with `ignore_nulls` of values that are not null."""

    def __init__(self, on: str | None = None, ignore_nulls: bool = False, alias_name: str | None = None) -> None:
        super().__init__("count", on, ignore_nulls, alias_name or f"count({on or ''})")

    def aggregate_block(self, block: pa.Table) -> int:
        if self._target_col_name is None or not self._ignore_nulls:
            return block.num_rows
        return block.num_rows - self._values(block).null_count

    def combine(self, current_accumulator: int, new: int) -> int:
        return current_accumulator + new

    def arrow_steps(self) -> ArrowSteps:
        if self._target_col_name is None or not self._ignore_nulls:
            partial: tuple[str, Any] = ("count_all", None)
        else:
            partial = ("count", pc.CountOptions(mode="only_valid"))
        return ArrowSteps((partial,), (("sum", None),), _same)


class Sum(_ByArrow):
    def __init__(self, on: str | None = None, ignore_nulls: bool = True, alias_name: str | None = None) -> None:
        super().__init__("sum", on, ignore_nulls, alias_name)

    def aggregate_block(self, block: pa.Table) -> Any:
        return self._scalar("sum", block)

    def combine(self, current_accumulator: Any, new: Any) -> Any:
        return current_accumulator + new

    def arrow_steps(self) -> ArrowSteps:
        step = ("sum", _skip(self._ignore_nulls))
        return ArrowSteps((step,), (step,), _same)


class Min(_ByArrow):
    def __init__(
        self,
        on: str | None = None,
        ignore_nulls: bool = True,
        alias_name: str | None = None,
        zero_factory: Callable[[], Any] = lambda: math.inf,
    ) -> None:
        super().__init__("min", on, ignore_nulls, alias_name)

    def aggregate_block(self, block: pa.Table) -> Any:
        return self._scalar("min", block)

    def combine(self, current_accumulator: Any, new: Any) -> Any:
        return min(current_accumulator, new)

    def arrow_steps(self) -> ArrowSteps:
        step = ("min", _skip(self._ignore_nulls))
        return ArrowSteps((step,), (step,), _same)


class Max(_ByArrow):
    def __init__(
        self,
        on: str | None = None,
        ignore_nulls: bool = True,
        alias_name: str | None = None,
        zero_factory: Callable[[], Any] = lambda: -math.inf,
    ) -> None:
        super().__init__("max", on, ignore_nulls, alias_name)

    def aggregate_block(self, block: pa.Table) -> Any:
        return self._scalar("max", block)

    def combine(self, current_accumulator: Any, new: Any) -> Any:
        return max(current_accumulator, new)

    def arrow_steps(self) -> ArrowSteps:
        step = ("max", _skip(self._ignore_nulls))
        return ArrowSteps((step,), (step,), _same)


class AbsMax(_ByArrow):
    """The largest magnitude."""

    def __init__(
        self,
        on: str | None = None,
        ignore_nulls: bool = True,
        alias_name: str | None = None,
        zero_factory: Callable[[], Any] = lambda: 0,
    ) -> None:
        super().__init__("abs_max", on, ignore_nulls, alias_name)

    def aggregate_block(self, block: pa.Table) -> Any:
        low, high = self._scalar("min", block), self._scalar("max", block)
        return None if low is None or high is None else max(abs(low), abs(high))

    def combine(self, current_accumulator: Any, new: Any) -> Any:
        return max(current_accumulator, new)

    def arrow_steps(self) -> ArrowSteps:
        skip = _skip(self._ignore_nulls)
        both = (("min", skip), ("max", skip))
        return ArrowSteps(both, both, lambda low, high: pc.max_element_wise(pc.abs(low), pc.abs(high)))


class Mean(_ByArrow):
    def __init__(self, on: str | None = None, ignore_nulls: bool = True, alias_name: str | None = None) -> None:
        super().__init__("mean", on, ignore_nulls, alias_name)

    def aggregate_block(self, block: pa.Table) -> list[Any] | None:
        total = self._scalar("sum", block)
        count = block.num_rows - self._values(block).null_count
        return None if total is None else [total, count]

    def combine(self, current_accumulator: list[Any], new: list[Any]) -> list[Any]:
        return [current_accumulator[0] + new[0], current_accumulator[1] + new[1]]

    def finalize(self, accumulator: list[Any] | None) -> float | None:
        if accumulator is None:
            return None
        return accumulator[0] / accumulator[1] if accumulator[1] else math.nan

    def arrow_steps(self) -> ArrowSteps:
        skip = _skip(self._ignore_nulls)
        return ArrowSteps(
            (("sum", skip), ("count", pc.CountOptions(mode="only_valid"))),
            (("sum", skip), ("sum", None)),
            lambda total, count: pc.divide(total.cast(pa.float64()), count.cast(pa.float64())),
        )


class Std(_ByArrow):
    """Standard deviation; ddof is subtracted from the number of values it is divided by."""

    def __init__(
        self,
        on: str | None = None,
        ddof: int = 1,
        ignore_nulls: bool = True,
        alias_name: str | None = None,
    ) -> None:
        super().__init__("std", on, ignore_nulls, alias_name)
        self._ddof = ddof

    @property
    def ddof(self) -> int:
        return self._ddof

    def aggregate_block(self, block: pa.Table) -> list[Any] | None:
        mean = self._scalar("mean", block)
        if mean is None:
            return None
        count = block.num_rows - self._values(block).null_count
        return [self._scalar("variance", block, ddof=0) * count, mean, count]

    def combine(self, current_accumulator: list[Any], new: list[Any]) -> list[Any]:
        m2, mean, count = current_accumulator
        m2_new, mean_new, count_new = new
        total = count + count_new
        delta = mean_new - mean
        return [m2 + m2_new + delta**2 * count * count_new / total, mean + delta * count_new / total, total]

    def finalize(self, accumulator: list[Any] | None) -> float | None:
        if accumulator is None:
            return None
        m2, _, count = accumulator
        return math.sqrt(m2 / (count - self._ddof)) if count > self._ddof else math.nan


class AsList(_ByArrow):
    """All values of a group as a list, in order."""

    def __init__(self, on: str, alias_name: str | None = None, ignore_nulls: bool = False) -> None:
        super().__init__("list", on, ignore_nulls, alias_name)

    def aggregate_block(self, block: pa.Table) -> list[Any]:
        values = to_list(self._values(block))
        return [value for value in values if value is not None] if self._ignore_nulls else values

    def combine(self, current_accumulator: list[Any], new: list[Any]) -> list[Any]:
        return current_accumulator + new


class Quantile(_ByArrow):
    """The value below which a share `q` of the values lies, interpolated between neighbours."""

    def __init__(
        self, on: str | None = None, q: float = 0.5, ignore_nulls: bool = True, alias_name: str | None = None
    ) -> None:
        super().__init__("quantile", on, ignore_nulls, alias_name)
        if not 0 <= q <= 1:
            raise ValueError(f"q must be between 0 and 1, got {q}.")
        self._q = q

    def aggregate_block(self, block: pa.Table) -> list[Any] | None:
        values = self._values(block)
        if values.null_count and not self._ignore_nulls:
            return None
        return [value for value in to_list(values) if value is not None] or None

    def combine(self, current_accumulator: list[Any], new: list[Any]) -> list[Any]:
        return current_accumulator + new

    def finalize(self, accumulator: list[Any] | None) -> float | None:
        return float(np.quantile(accumulator, self._q)) if accumulator else None


class Unique(_ByArrow):
    """The distinct values of a group, as a list."""

    def __init__(
        self,
        on: str | None = None,
        ignore_nulls: bool = False,
        alias_name: str | None = None,
        encode_lists: Any = None,
    ) -> None:
        super().__init__("unique", on, ignore_nulls, alias_name)
        self._encode_lists = encode_lists

    def aggregate_block(self, block: pa.Table) -> set[Any]:
        values = to_list(self._values(block))
        if self._encode_lists is False or (self._encode_lists is None and any(isinstance(v, list) for v in values)):
            values = [item for value in values for item in (value if isinstance(value, list) else [value])]
        found = {_hashable(value) for value in values}
        if self._ignore_nulls:
            found = {value for value in found if value is not None}
        nans = [value for value in found if isinstance(value, float) and value != value]
        return (found - set(nans)) | ({math.nan} if nans else set())

    def combine(self, current_accumulator: set[Any], new: set[Any]) -> set[Any]:
        joined = current_accumulator | new
        nans = [value for value in joined if isinstance(value, float) and value != value]
        return (joined - set(nans)) | {nans[0]} if nans else joined

    def finalize(self, accumulator: set[Any]) -> Any:
        return [list(value) if isinstance(value, tuple) else value for value in accumulator]


class CountDistinct(Unique):
    """How many distinct values there are."""

    def __init__(self, on: str, ignore_nulls: bool = True, alias_name: str | None = None) -> None:
        super().__init__(on, ignore_nulls, alias_name or f"count_distinct({on})")

    def finalize(self, accumulator: set[Any]) -> int:
        return len(accumulator)


class ValueCounter(_ByArrow):
    """Distinct values and how often each is there: {"values": [...], "counts": [...]}."""

    def __init__(self, on: str, alias_name: str | None = None) -> None:
        super().__init__("value_counter", on, True, alias_name)

    def aggregate_block(self, block: pa.Table) -> dict[str, list[Any]]:
        counted = pc.value_counts(self._values(block).combine_chunks())
        return {"values": counted.field("values").to_pylist(), "counts": counted.field("counts").to_pylist()}

    def combine(self, current_accumulator: dict[str, list[Any]], new: dict[str, list[Any]]) -> dict[str, list[Any]]:
        counts = dict(zip(current_accumulator["values"], current_accumulator["counts"], strict=True))
        for value, count in zip(new["values"], new["counts"], strict=True):
            counts[value] = counts.get(value, 0) + count
        return {"values": list(counts), "counts": list(counts.values())}


class MissingValuePercentage(_ByArrow):
    """Percentage of values that are null or NaN."""

    def __init__(self, on: str, alias_name: str | None = None) -> None:
        super().__init__("missing_pct", on, False, alias_name)

    def aggregate_block(self, block: pa.Table) -> list[int]:
        values = self._values(block)
        return [pc.sum(pc.is_null(values, nan_is_null=True)).as_py() or 0, len(values)]

    def combine(self, current_accumulator: list[int], new: list[int]) -> list[int]:
        return [a + b for a, b in zip(current_accumulator, new, strict=True)]

    def finalize(self, accumulator: list[int] | None) -> float | None:
        return None if not accumulator or not accumulator[1] else 100.0 * accumulator[0] / accumulator[1]


class ZeroPercentage(MissingValuePercentage):
    """Percentage of values that are zero."""

    def __init__(self, on: str, ignore_nulls: bool = True, alias_name: str | None = None) -> None:
        super().__init__(on, alias_name or f"zero_pct({on})")
        self._count_nulls = not ignore_nulls

    def aggregate_block(self, block: pa.Table) -> list[int]:
        values = self._values(block)
        total = len(values) if self._count_nulls else len(values) - values.null_count
        return [pc.sum(pc.equal(values, 0)).as_py() or 0, total]


def _hashable(value: Any) -> Any:
    if isinstance(value, (list, np.ndarray)):
        return tuple(_hashable(item) for item in (value.tolist() if isinstance(value, np.ndarray) else value))
    return tuple(sorted(value.items())) if isinstance(value, dict) else value
