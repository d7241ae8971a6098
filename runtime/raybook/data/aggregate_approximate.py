"""Approximate aggregations: quantiles and the most frequent values, in bounded memory.

Both are sketches that merge: a block's sketch is a small record, and two make one. They are our own, so no package is
needed; Ray takes Apache DataSketches for them. Results are exact while a column has no more values than a sketch keeps.
"""

from __future__ import annotations

import pickle
from collections import Counter
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from raybook.data.aggregate_base import AggregateFnV2
from raybook.data.columns import to_list

POINTS_PER_PRECISION = 4
"""Weighted points that a quantile sketch keeps for each unit of its precision. Putting n points into m evens out ranks
by at most 1 / (2 m) of all values; a block's sketch is put together a few times on its way. At 800, Ray's default, the error
of a rank stays under 0.1 %, where KLL of that precision says 0.35 %."""
LOAD_SHARE = 0.75
"""Of the capacity of a frequency sketch, as DataSketches fills its map."""

Sketch = tuple[np.ndarray, np.ndarray]
"""Values in order, and how many each stands for."""


class ApproximateQuantile(AggregateFnV2[bytes, list[float]]):
    """Quantiles of a column of numbers as a list, one for each of `quantiles` (0 to 1). Nulls do not count; a group without
    values gives None. quantile_precision: higher is more exact, and larger; see `POINTS_PER_PRECISION`."""

    def __init__(
        self, on: str, quantiles: list[float], quantile_precision: int = 800, alias_name: str | None = None
    ) -> None:
        if not all(0 <= one <= 1 for one in quantiles):
            raise ValueError(f"quantiles must be between 0 and 1, got {quantiles}.")
        if quantile_precision < 8:
            raise ValueError(f"quantile_precision must be at least 8, got {quantile_precision}.")
        super().__init__(alias_name or f"approx_quantile({on})", bytes, on=on, ignore_nulls=True)
        self._quantiles, self._quantile_precision = list(quantiles), quantile_precision

    def aggregate_block(self, block: pa.Table) -> bytes | None:
        values = block.column(str(self._target_col_name)).drop_null()
        numbers = values.cast(pa.float64(), safe=False).to_numpy()
        numbers = np.sort(numbers[~np.isnan(numbers)])
        if not len(numbers):
            return None
        return pickle.dumps(compressed((numbers, np.ones(len(numbers))), self._points()))

    def combine(self, current_accumulator: bytes, new: bytes) -> bytes:
        return pickle.dumps(merged([pickle.loads(current_accumulator), pickle.loads(new)], self._points()))

    def finalize(self, accumulator: bytes | None) -> list[float] | None:
        if not accumulator:
            return None
        values, weights = pickle.loads(accumulator)
        ends = np.cumsum(weights)
        # The value at a rank: with all of them kept, the one that stands there when they are in order.
        ranks = np.minimum(np.floor(np.array(self._quantiles) * ends[-1]), ends[-1] - 1)
        return [float(one) for one in values[np.searchsorted(ends, ranks, side="right")]]

    def _points(self) -> int:
        return POINTS_PER_PRECISION * self._quantile_precision


def merged(sketches: list[Sketch], points: int) -> Sketch:
    """Sketches as one of at most so many points."""
    values = np.concatenate([values for values, _ in sketches])
    weights = np.concatenate([weights for _, weights in sketches])
    order = np.argsort(values, kind="stable")
    return compressed((values[order], weights[order]), points)


def compressed(sketch: Sketch, points: int) -> Sketch:
    """At most so many points: each stands for the same share of the values, and is the one in the middle of them. The
    least and the greatest value stay."""
    values, weights = sketch
    if len(values) <= points:
        return sketch
    ends = np.cumsum(weights)
    total = ends[-1]
    bounds = np.round(np.linspace(0, total, points - 1))
    middles = np.floor((bounds[:-1] + bounds[1:]) / 2)
    chosen = np.searchsorted(ends, np.concatenate([[0], middles, [total - 1]]), side="right")
    shares = np.concatenate([[1], np.diff(bounds), [1]])
    shares[1] -= 1
    shares[-2] -= 1
    return values[chosen], shares


class ApproximateTopK(AggregateFnV2[Any, list[dict[str, Any]]]):
    """The k most frequent values of a column, the most frequent first: [{column: value, "count": n}, ...]. Nulls do not
    count. log_capacity: base 2 of how many different values are told apart at a time; beyond that a count may be too low by
    the number of rows over the capacity. encode_lists: count the elements of lists instead of the lists."""

    def __init__(
        self,
        on: str,
        k: int,
        log_capacity: int = 15,
        alias_name: str | None = None,
        encode_lists: bool = False,
    ) -> None:
        if k < 1:
            raise ValueError(f"k must be at least 1, got {k}.")
        super().__init__(alias_name or f"approx_topk({on})", dict, on=on, ignore_nulls=True)
        self.k = k
        self._capacity = max(1, int(LOAD_SHARE * (1 << log_capacity)))
        self._encode_lists = encode_lists

    def aggregate_block(self, block: pa.Table) -> dict[bytes, int] | None:
        column = block.column(str(self._target_col_name)).drop_null()
        kind = column.type
        if self._encode_lists and (pa.types.is_list(kind) or pa.types.is_large_list(kind)):
            column = pc.list_flatten(column).drop_null()
            kind = column.type
        if not len(column):
            return None
        if pa.types.is_nested(kind) or isinstance(kind, pa.BaseExtensionType):
            counts = Counter(pickle.dumps(value) for value in to_list(column) if value is not None)
            return self._bounded(dict(counts))
        counted = pc.value_counts(column.combine_chunks())
        values, numbers = counted.field("values").to_pylist(), counted.field("counts").to_pylist()
        return self._bounded({pickle.dumps(value): number for value, number in zip(values, numbers, strict=True)})

    def combine(self, current_accumulator: dict[bytes, int], new: dict[bytes, int]) -> dict[bytes, int]:
        joined = dict(current_accumulator)
        for value, count in new.items():
            joined[value] = joined.get(value, 0) + count
        return self._bounded(joined)

    def _bounded(self, counts: dict[bytes, int]) -> dict[bytes, int]:
        """Misra and Gries: what does not fit lowers all counts alike, and what reaches zero goes."""
        if len(counts) <= self._capacity:
            return counts
        taken = sorted(counts.values(), reverse=True)[self._capacity]
        return {value: count - taken for value, count in counts.items() if count > taken}

    def finalize(self, accumulator: dict[bytes, int] | None) -> list[dict[str, Any]] | None:
        if accumulator is None:
            return None
        # Equal counts in order of the values' bytes: the same result whatever order blocks came in.
        best = sorted(accumulator.items(), key=lambda item: (-item[1], item[0]))[: self.k]
        return [{str(self._target_col_name): pickle.loads(value), "count": count} for value, count in best]
