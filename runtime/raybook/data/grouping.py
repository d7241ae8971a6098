"""Grouping within blocks: partial aggregates of a block, and partial aggregates of blocks merged into the result.

A partial block has the keys' columns, then the partial columns of each aggregation in order, named by position. Arrow's
group_by does both halves where an aggregation says how (`ArrowSteps`); `Std` is merged by numpy, pairwise stable; the
rest are Python accumulators, pickled in a column. Results are ordered by key.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from raybook.data.aggregate import AggregateFn, Std
from raybook.data.batches import to_rows
from raybook.data.block import concat_blocks
from raybook.data.column_types import python_objects, python_objects_to_list
from raybook.data.columns import to_arrow
from raybook.data.keys import group_bounds, sort_table

GROUP = "__group__"
STD_PARTIALS = (("count", pc.CountOptions(mode="only_valid")), ("mean", None), ("variance", None), ("count_all", None))


def is_by_python(aggregation: AggregateFn) -> bool:
    return aggregation.arrow_steps() is None and not isinstance(aggregation, Std)


def _width(aggregation: AggregateFn) -> int:
    if isinstance(aggregation, Std):
        return len(STD_PARTIALS)
    steps = aggregation.arrow_steps()
    return 1 if steps is None else len(steps.partials)


def _name(index: int, part: int) -> str:
    return f"__{index}_{part}__"


def partial_aggregate(table: pa.Table, keys: Sequence[str], aggregations: Sequence[AggregateFn]) -> pa.Table:
    """A block's groups with their partial aggregates."""
    table = _plain_keys(table, keys)
    if not table.num_rows:
        return pa.table({})
    if any(is_by_python(one) for one in aggregations):
        table = sort_table(table, keys, [False] * len(keys))
    specs: list[tuple[Any, ...]] = []
    for one in aggregations:
        if not is_by_python(one):
            specs += [_spec(one, function, options) for function, options in _partials(one)]
    # Without threads groups come in order of their first row.
    grouped = table.group_by(list(keys), use_threads=False).aggregate(specs or [([], "count_all")])
    key_columns, value_columns = _take_apart(grouped, keys, len(specs))
    columns, names = list(key_columns), list(keys)
    python = _by_python(table, keys, aggregations)
    at = 0
    for index, one in enumerate(aggregations):
        for part in range(_width(one)):
            names.append(_name(index, part))
            if is_by_python(one):
                columns.append(python[index])
            else:
                columns.append(value_columns[at])
                at += 1
    return pa.table(columns, names=names)


def _plain_keys(table: pa.Table, keys: Sequence[str]) -> pa.Table:
    for name in keys:
        index = table.schema.get_field_index(name)
        kind = table.schema.field(index).type if index >= 0 else None
        if kind is not None and pa.types.is_dictionary(kind):
            table = table.set_column(index, name, table.column(index).cast(kind.value_type))
    return table


def _partials(one: AggregateFn) -> Sequence[tuple[str, Any]]:
    if isinstance(one, Std):
        skip = pc.ScalarAggregateOptions(skip_nulls=one._ignore_nulls, min_count=1)
        variance = pc.VarianceOptions(ddof=0, skip_nulls=one._ignore_nulls, min_count=1)
        return (STD_PARTIALS[0], ("mean", skip), ("variance", variance), STD_PARTIALS[3])
    steps = one.arrow_steps()
    assert steps is not None
    return steps.partials


def _spec(one: AggregateFn, function: str, options: Any) -> tuple[Any, ...]:
    if function == "count_all":
        return ([], "count_all")
    return (one.column, function, options) if options is not None else (one.column, function)


def _take_apart(grouped: pa.Table, keys: Sequence[str], values: int) -> tuple[list[Any], list[Any]]:
    """Keys' and aggregates' columns of a result of group_by, by position: names of aggregates may repeat."""
    columns = grouped.columns
    if keys and grouped.column_names[: len(keys)] == list(keys):
        return columns[: len(keys)], columns[len(keys) : len(keys) + values]
    return columns[len(columns) - len(keys) :], columns[:values]


def _by_python(table: pa.Table, keys: Sequence[str], aggregations: Sequence[AggregateFn]) -> dict[int, pa.Array]:
    """Accumulators of the aggregations that Python runs, in order of the groups. The table is sorted by the keys."""
    wanted = [(index, one) for index, one in enumerate(aggregations) if is_by_python(one)]
    if not wanted:
        return {}
    bounds = group_bounds(table, keys)
    made: dict[int, list[Any]] = {index: [] for index, _ in wanted}
    for start, end in zip(bounds[:-1], bounds[1:], strict=True):
        group = table.slice(int(start), int(end - start))
        first = to_rows(group.select(list(keys)).slice(0, 1))[0] if keys else {}
        key = first[keys[0]] if len(keys) == 1 else tuple(first.values()) or None
        for index, one in wanted:
            made[index].append(one.accumulate(one.init(key), group, to_rows))
    return {index: python_objects([(value,) for value in values]) for index, values in made.items()}


def merge_partials(tables: Sequence[pa.Table], keys: Sequence[str], aggregations: Sequence[AggregateFn]) -> pa.Table:
    """The result of the partial aggregates of all blocks: keys and one column an aggregation, ordered by key."""
    whole = concat_blocks(tables)
    if not whole.num_columns:
        return pa.table({})
    whole = sort_table(whole, keys, [False] * len(keys)).combine_chunks()
    bounds = group_bounds(whole, keys)
    sizes = np.diff(bounds)
    numbered = whole.append_column(GROUP, pa.array(np.repeat(np.arange(len(sizes)), sizes)))
    columns = [whole.column(name).take(pa.array(bounds[:-1])) for name in keys]
    names = list(keys)
    for index, one in enumerate(aggregations):
        parts = [_name(index, part) for part in range(_width(one))]
        columns.append(_merge(numbered, parts, one, bounds))
        names.append(one.name)
    return pa.table(columns, names=_unique(names))


def _unique(names: list[str]) -> list[str]:
    """Two aggregations of one name get "_2", "_3" behind it."""
    seen: dict[str, int] = {}
    made = []
    for name in names:
        seen[name] = seen.get(name, 0) + 1
        made.append(name if seen[name] == 1 else f"{name}_{seen[name]}")
    return made


def _merge(numbered: pa.Table, parts: list[str], one: AggregateFn, bounds: np.ndarray) -> Any:
    if isinstance(one, Std):
        return _merge_std(numbered, parts, one, bounds)
    steps = one.arrow_steps()
    if steps is None:
        return _merge_python(numbered.column(parts[0]), one, bounds)
    specs = [(name, f, o) if o is not None else (name, f) for name, (f, o) in zip(parts, steps.merges, strict=True)]
    grouped = numbered.group_by(GROUP, use_threads=False).aggregate(specs)
    _, values = _take_apart(grouped, [GROUP], len(specs))
    return steps.finish(*values)


def _merge_python(column: pa.ChunkedArray, one: AggregateFn, bounds: np.ndarray) -> Any:
    boxed = [value[0] for value in python_objects_to_list(column)]
    results = []
    for start, end in zip(bounds[:-1], bounds[1:], strict=True):
        accumulator = boxed[start]
        for other in boxed[start + 1 : end]:
            accumulator = one.merge(accumulator, other)
        results.append(one.finalize(accumulator))
    return to_arrow(results, one.name)


def _merge_std(numbered: pa.Table, parts: list[str], one: Std, bounds: np.ndarray) -> pa.Array:
    """Of counts, means and variances of parts, in two passes: no sum of squares, whose differences lose digits."""
    count, mean, variance, _ = (numbered.column(name) for name in parts)
    counts = count.to_numpy().astype(float)
    is_missing = pc.is_null(mean).to_numpy()
    means = np.where(is_missing, 0.0, mean.fill_null(0.0).to_numpy())
    variances = np.where(is_missing, 0.0, variance.fill_null(0.0).to_numpy())
    weights = np.where(is_missing, 0.0, counts)
    starts = bounds[:-1]
    total = np.add.reduceat(weights, starts)
    with np.errstate(divide="ignore", invalid="ignore"):
        centre = np.add.reduceat(weights * means, starts) / total
        spread = means - np.repeat(centre, np.diff(bounds))
        m2 = np.add.reduceat(variances * weights + np.where(weights > 0, weights * spread**2, 0.0), starts)
        result = np.where(total > one.ddof, np.sqrt(m2 / (total - one.ddof)), np.nan)
    missing = np.logical_or.reduceat(is_missing, starts) if not one._ignore_nulls else total == 0
    return pa.array(result, mask=missing)
