"""GroupedData: what `Dataset.groupby` gives: aggregates of groups, or a function over whole groups."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from raybook.data.aggregate import AggregateFn, Count, Max, Mean, Min, Std, Sum
from raybook.data.batches import check_format
from raybook.data.compute import ComputeStrategy, strategy_for
from raybook.data.core.plan import Aggregate, MapGroups, Resources
from raybook.data.dataset_base import DatasetBase
from raybook.data.datasource.task_context import TaskContext
from raybook.data.expression_nodes import AliasExpr, Expr
from raybook.data.expressions import star
from raybook.data.functions import UserFunction
from raybook.data.keys import group_bounds
from raybook.data.transforms import MapBatches, Project, Run, Transform

if TYPE_CHECKING:
    from raybook.data.dataset import Dataset


class EachGroup(Transform):
    """Runs a transform once for each run of equal keys. The block is ordered by them."""

    def __init__(self, inner: Transform, keys: Sequence[str]) -> None:
        self.inner, self.keys = inner, tuple(keys)

    def make(self) -> Run:
        run_inner = self.inner.make()

        def groups(blocks: Iterator[pa.Table]) -> Iterator[pa.Table]:
            for block in blocks:
                bounds = group_bounds(block, self.keys) if self.keys else np.array([0, block.num_rows])
                for start, end in zip(bounds[:-1], bounds[1:], strict=True):
                    yield block.slice(int(start), int(end - start))

        def run(blocks: Iterator[pa.Table], context: TaskContext) -> Iterator[pa.Table]:
            return run_inner(groups(blocks), context)

        return run


def aggregate_node(
    dataset: DatasetBase, keys: tuple[str, ...], aggs: Sequence[AggregateFn], num_partitions: int | None
) -> Aggregate:
    """The plan of an aggregation. ValueError for none, or for columns that are known not to be there."""
    if not aggs:
        raise ValueError("Aggregate requires at least one aggregation")
    for one in aggs:
        if not isinstance(one, AggregateFn):
            raise TypeError(f"aggregate() wants aggregations, such as Sum('x'); got {one!r}.")
    columns = [one.column for one in aggs if one.column is not None]
    dataset._require_columns(columns, "a column to aggregate")
    from_python = any(one.column is None and one.arrow_steps() is None for one in aggs)
    needed = None if from_python else tuple(dict.fromkeys((*keys, *columns)))
    return Aggregate((dataset._plan,), keys, tuple(aggs), num_partitions, needed)


class GroupedData:
    """Groups of rows with equal keys."""

    def __init__(self, dataset: Dataset, key: str | list[str] | None, *, num_partitions: int | None) -> None:
        self._dataset, self._key, self._num_partitions = dataset, key, num_partitions
        self._keys = () if key is None else (key,) if isinstance(key, str) else tuple(key)

    def __repr__(self) -> str:
        return f"GroupedData(dataset={self._dataset!r}, key={self._key!r})"

    def aggregate(self, *aggs: AggregateFn) -> Dataset:
        """A row for each group, ordered by key within each block: the keys, and a column for each aggregation, named
        after it ("sum(x)")."""
        return self._dataset._derive(aggregate_node(self._dataset, self._keys, aggs, self._num_partitions))

    def count(self) -> Dataset:
        """Number of rows of each group, as "count()"."""
        return self.aggregate(Count())

    def sum(self, on: str | list[str] | None = None, ignore_nulls: bool = True) -> Dataset:
        """Sums of columns; of all but the keys without `on`."""
        return self._each(lambda name: Sum(name, ignore_nulls), on)

    def min(self, on: str | list[str] | None = None, ignore_nulls: bool = True) -> Dataset:
        return self._each(lambda name: Min(name, ignore_nulls), on)

    def max(self, on: str | list[str] | None = None, ignore_nulls: bool = True) -> Dataset:
        return self._each(lambda name: Max(name, ignore_nulls), on)

    def mean(self, on: str | list[str] | None = None, ignore_nulls: bool = True) -> Dataset:
        return self._each(lambda name: Mean(name, ignore_nulls), on)

    def std(self, on: str | list[str] | None = None, ddof: int = 1, ignore_nulls: bool = True) -> Dataset:
        return self._each(lambda name: Std(name, ddof, ignore_nulls), on)

    def _each(self, make: Callable[[str], AggregateFn], on: str | list[str] | None) -> Dataset:
        if on is None:
            known = self._dataset._fetch_schema()
            columns = [name for name in (known.names if known else []) if name not in self._keys]
        else:
            columns = [on] if isinstance(on, str) else list(on)
        if not columns:
            raise ValueError("At least 1 column to aggregate on has to be provided")
        return self.aggregate(*(make(name) for name in columns))

    def map_groups(
        self,
        fn: Callable[..., Any],
        *,
        zero_copy_batch: bool = True,
        compute: str | ComputeStrategy | None = None,
        batch_format: str | None = "default",
        fn_args: Any = None,
        fn_kwargs: dict[str, Any] | None = None,
        fn_constructor_args: Any = None,
        fn_constructor_kwargs: dict[str, Any] | None = None,
        num_cpus: float | None = None,
        num_gpus: float | None = None,
        memory: float | None = None,
        concurrency: int | tuple[int, ...] | None = None,
        ray_remote_args_fn: Callable[[], dict[str, Any]] | None = None,
        **ray_remote_args: Any,
    ) -> Dataset:
        """Each group as one batch through `fn`, whatever its size; what it returns are the rows."""
        check_format(batch_format)
        strategy = strategy_for(fn, compute, concurrency, fn_constructor_args)
        function = UserFunction(fn, fn_args, fn_kwargs, fn_constructor_args, fn_constructor_kwargs)
        inner = MapBatches(function, None, batch_format, zero_copy_batch)
        options = dict(ray_remote_args)
        for name, value in (("num_cpus", num_cpus), ("num_gpus", num_gpus), ("memory", memory)):
            if value is not None:
                options[name] = value
        return self._map_groups(inner, function.name, Resources(strategy, options, ray_remote_args_fn))

    def _map_groups(self, inner: Transform, label: str, resources: Resources) -> Dataset:
        node = MapGroups(
            (self._dataset._plan,),
            self._keys,
            EachGroup(inner, self._keys),
            label,
            self._num_partitions,
            resources,
        )
        return self._dataset._derive(node)

    def with_column(self, column_name: str, expr: Expr, **ray_remote_args: Any) -> Dataset:
        """Another column by an expression, evaluated group by group."""
        inner = Project([star(), AliasExpr(expr, column_name)])
        return self._map_groups(inner, f"with_column({column_name})", Resources(None, dict(ray_remote_args)))
