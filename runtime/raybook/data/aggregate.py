"""Aggregations: what `groupby().aggregate(...)` and `Dataset.aggregate(...)` take, and the bases for your own.

The common ones say how Arrow computes them (`ArrowSteps`): partly in each block, then of the parts. All others are run
by their Python methods on the rows of each group: correct for anything, and a thousand times slower.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from raybook.data.aggregate_approximate import ApproximateQuantile, ApproximateTopK
from raybook.data.aggregate_base import (
    AccumulatorType,
    AggOutputType,
    AggregateFn,
    AggregateFnV2,
    ArrowSteps,
    ByArrow,
    VectorizedAggregateFnV2,
    same,
    skip_nulls,
)
from raybook.data.columns import to_list

__all__ = [
    "AbsMax",
    "AccumulatorType",
    "AggOutputType",
    "AggregateFn",
    "AggregateFnV2",
    "ApproximateQuantile",
    "ApproximateTopK",
    "ArrowSteps",
    "AsList",
    "Count",
    "CountDistinct",
    "Max",
    "Mean",
    "Min",
    "MissingValuePercentage",
    "Quantile",
    "Std",
    "Sum",
    "Unique",
    "ValueCounter",
    "VectorizedAggregateFnV2",
    "ZeroPercentage",
]


class Count(ByArrow):
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
        return ArrowSteps((partial,), (("sum", None),), same)


class Sum(ByArrow):
    def __init__(self, on: str | None = None, ignore_nulls: bool = True, alias_name: str | None = None) -> None:
        super().__init__("sum", on, ignore_nulls, alias_name)

    def aggregate_block(self, block: pa.Table) -> Any:
        return self._scalar("sum", block)

    def combine(self, current_accumulator: Any, new: Any) -> Any:
        return current_accumulator + new

    def arrow_steps(self) -> ArrowSteps:
        step = ("sum", skip_nulls(self._ignore_nulls))
        return ArrowSteps((step,), (step,), same)


class Min(ByArrow):
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
        step = ("min", skip_nulls(self._ignore_nulls))
        return ArrowSteps((step,), (step,), same)


class Max(ByArrow):
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
        step = ("max", skip_nulls(self._ignore_nulls))
        return ArrowSteps((step,), (step,), same)


class AbsMax(ByArrow):
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
        skip = skip_nulls(self._ignore_nulls)
        both = (("min", skip), ("max", skip))
        return ArrowSteps(both, both, lambda low, high: pc.max_element_wise(pc.abs(low), pc.abs(high)))


class Mean(ByArrow):
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
        skip = skip_nulls(self._ignore_nulls)
        return ArrowSteps(
            (("sum", skip), ("count", pc.CountOptions(mode="only_valid"))),
            (("sum", skip), ("sum", None)),
            lambda total, count: pc.divide(total.cast(pa.float64()), count.cast(pa.float64())),
        )


class Std(ByArrow):
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


class AsList(ByArrow):
    """All values of a group as a list, in order."""

    def __init__(self, on: str, alias_name: str | None = None, ignore_nulls: bool = False) -> None:
        super().__init__("list", on, ignore_nulls, alias_name)

    def aggregate_block(self, block: pa.Table) -> list[Any]:
        values = to_list(self._values(block))
        return [value for value in values if value is not None] if self._ignore_nulls else values

    def combine(self, current_accumulator: list[Any], new: list[Any]) -> list[Any]:
        return current_accumulator + new


class Quantile(ByArrow):
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


class Unique(ByArrow):
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


class ValueCounter(ByArrow):
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


class MissingValuePercentage(ByArrow):
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
