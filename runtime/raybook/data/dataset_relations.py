"""Relations between rows, and between datasets: limit, order, groups, joins, unions. Nothing runs here, but for the
aggregates of a whole dataset."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from raybook.data.aggregate import AggregateFn, Max, Mean, Min, Std, Sum, Unique
from raybook.data.core.plan import (
    InputData,
    Join,
    Limit,
    Mix,
    Node,
    RandomizeBlocks,
    RandomShuffle,
    Repartition,
    Sort,
    Union,
    Zip,
)
from raybook.data.dataset_base import DatasetBase
from raybook.data.execution.join_recipe import JOIN_KINDS
from raybook.data.grouped_data import GroupedData, aggregate_node
from raybook.data.mix import MixStoppingCondition
from raybook.data.random_seed import seed_value

if TYPE_CHECKING:
    from raybook.data.dataset import Dataset


class DatasetRelations(DatasetBase):
    """Part of Dataset."""

    def limit(self, limit: int) -> Dataset:
        """The first `limit` rows, none for a negative number. What need not run for them does not."""
        if not isinstance(limit, int) or isinstance(limit, bool):
            raise ValueError(f"`limit` must be an integer, got {limit!r}.")
        return self._derive(Limit((self._plan,), max(0, limit)))

    def union(self, *other: DatasetBase) -> Dataset:
        """The rows of this one, then of the others."""
        for one in other:
            if not isinstance(one, DatasetBase):
                raise TypeError(f"union() wants datasets, got {type(one).__name__}.")
        plans: tuple[Node, ...] = (self._plan, *(one._plan for one in other))
        if all(isinstance(plan, InputData) for plan in plans):
            bundles = tuple(bundle for plan in plans for bundle in plan.bundles)  # type: ignore[attr-defined]
            return self._materialized(list(bundles))
        return self._derive(Union(plans))

    def mix(
        self,
        *other: DatasetBase,
        weights: list[float] | None = None,
        stopping_condition: MixStoppingCondition = MixStoppingCondition.STOP_ON_LONGEST_DROP,
    ) -> Dataset:
        """Blocks of all in turns, so that rows come about in proportion to the weights (equal unless given)."""
        count = 1 + len(other)
        shares = weights if weights is not None else [1.0 / count] * count
        if len(shares) != count:
            raise ValueError(f"`weights` must have one weight for each of the {count} datasets, got {len(shares)}.")
        if any(share <= 0 for share in shares):
            raise ValueError(f"All weights must be positive, got {shares}.")
        plans = (self._plan, *(one._plan for one in other))
        return self._derive(Mix(plans, tuple(shares), MixStoppingCondition(stopping_condition).name))

    def zip(self, *other: DatasetBase) -> Dataset:
        """Columns of all, row by row. ValueError when it runs and their numbers of rows differ; a name that is taken
        gets "_1" behind it."""
        return self._derive(Zip((self._plan, *(one._plan for one in other))))

    def repartition(
        self,
        num_blocks: int | None = None,
        target_num_rows_per_block: int | None = None,
        *,
        strict: bool = False,
        shuffle: bool = False,
        keys: list[str] | None = None,
        sort: bool = False,
    ) -> Dataset:
        """The same rows in `num_blocks` blocks, or in blocks of `target_num_rows_per_block`. In order, unless
        `shuffle`, or `keys`: then rows with equal keys share a block (in order of them with `sort`)."""
        if (num_blocks is None) == (target_num_rows_per_block is None):
            if num_blocks is None and keys is None:
                raise ValueError("Either `num_blocks` or `target_num_rows_per_block` must be set")
            if num_blocks is not None:
                raise ValueError("Only one of `num_blocks` or `target_num_rows_per_block` must be set, but not both.")
        for name, value in (("num_blocks", num_blocks), ("target_num_rows_per_block", target_num_rows_per_block)):
            if value is not None and (not isinstance(value, int) or value < 1):
                raise ValueError(f"`{name}` must be a positive integer, got {value!r}.")
        if target_num_rows_per_block is not None and shuffle:
            raise ValueError("`shuffle` must be False when `target_num_rows_per_block` is set.")
        names = (keys,) if isinstance(keys, str) else tuple(keys or ())
        self._require_columns(list(names), "a key to repartition by")
        return self._derive(
            Repartition((self._plan,), num_blocks, target_num_rows_per_block, strict, shuffle, names, sort)
        )

    def random_shuffle(self, *, seed: Any = None, num_blocks: int | None = None, **ray_remote_args: Any) -> Dataset:
        """All rows in a random order, the same for the same seed. Cost: all rows move twice through the store."""
        seed_value(seed)
        return self._derive(RandomShuffle((self._plan,), seed, num_blocks, ray_remote_args))

    def randomize_block_order(self, *, seed: Any = None) -> Dataset:
        """Blocks in a random order; rows stay in their blocks. Costs next to nothing."""
        seed_value(seed)
        return self._derive(RandomizeBlocks((self._plan,), seed))

    def sort(
        self,
        key: str | list[str],
        descending: bool | list[bool] = False,
        boundaries: list[int | float] | None = None,
    ) -> Dataset:
        """Rows in order of the column or columns; equal ones stay in order, nulls come last. boundaries: of the blocks
        that come out, one more than there are boundaries; by default they are chosen from a sample."""
        keys = [key] if isinstance(key, str) else list(key) if isinstance(key, (list, tuple)) else key
        if not isinstance(keys, list) or not keys or not all(isinstance(name, str) for name in keys):
            raise ValueError(f"Key must be a string or a list of strings, but got {key!r}.")
        if isinstance(descending, (list, tuple)):
            if len(descending) != len(keys):
                raise ValueError("Length of `descending` does not match the length of the key.")
            orders = tuple(bool(one) for one in descending)
        else:
            orders = (bool(descending),) * len(keys)
        if boundaries is not None and len(keys) > 1:
            raise ValueError("`boundaries` are of one key.")
        self._require_columns(keys, "a key to sort by")
        limits = tuple(sorted(boundaries, reverse=orders[0])) if boundaries is not None else None
        return self._derive(Sort((self._plan,), tuple(keys), orders, limits))

    def join(
        self,
        ds: DatasetBase,
        join_type: str,
        num_partitions: int,
        on: tuple[str, ...] | list[str] | str = ("id",),
        right_on: tuple[str, ...] | list[str] | str | None = None,
        left_suffix: str | None = None,
        right_suffix: str | None = None,
        *,
        partition_size_hint: int | None = None,
        aggregator_ray_remote_args: dict[str, Any] | None = None,
        validate_schemas: bool = False,
    ) -> Dataset:
        """Rows of both whose keys are equal. join_type: "inner", "left_outer", "right_outer", "full_outer", "left_semi",
        "right_semi", "left_anti", "right_anti". on, right_on: the keys of this and of the other one. The suffixes keep
        columns of one name apart."""
        kind = str(getattr(join_type, "value", join_type))
        if kind not in JOIN_KINDS:
            raise ValueError(f"{join_type!r} is not a valid join type: one of {', '.join(JOIN_KINDS)}.")
        if not isinstance(ds, DatasetBase):
            raise TypeError(f"join() wants a dataset, got {type(ds).__name__}.")
        if isinstance(on, str) or isinstance(right_on, str):
            on = (on,) if isinstance(on, str) else on
            right_on = (right_on,) if isinstance(right_on, str) else right_on
        left_on, keys_right = tuple(on), tuple(right_on) if right_on else tuple(on)
        if len(left_on) != len(keys_right) or not left_on:
            raise ValueError(f"`on` and `right_on` must name the same number of columns: {left_on}, {keys_right}.")
        if not isinstance(num_partitions, int) or num_partitions < 1:
            raise ValueError(f"`num_partitions` must be a positive integer, got {num_partitions!r}.")
        self._require_columns(list(left_on), "a key of the join")
        ds._require_columns(list(keys_right), "a key of the join")
        _check_overlap(self, ds, kind, left_on, keys_right, left_suffix, right_suffix)
        return self._derive(
            Join(
                (self._plan, ds._plan),
                kind,
                left_on,
                keys_right,
                left_suffix,
                right_suffix,
                num_partitions,
                dict(aggregator_ray_remote_args or {}),
            )
        )

    # Groups

    def groupby(self, key: str | list[str] | None, num_partitions: int | None = None) -> GroupedData:
        """Groups of rows with equal keys; None: all rows are one group."""
        keys = () if key is None else (key,) if isinstance(key, str) else tuple(key)
        if not all(isinstance(name, str) for name in keys):
            raise ValueError(f"Key must be a string or a list of strings, but got {key!r}.")
        if num_partitions is not None and num_partitions <= 0:
            raise ValueError("`num_partitions` must be a positive integer")
        self._require_columns(list(keys), "a key to group by")
        return GroupedData(self, key, num_partitions=num_partitions)  # type: ignore[arg-type]

    def aggregate(self, *aggs: AggregateFn) -> Any:
        """All rows as one group: a dict from each aggregation's name to its result; None when there are no rows."""
        rows = self._derive(aggregate_node(self, (), aggs, None)).take(1)
        return rows[0] if rows else None

    def _aggregate_columns(self, make: Any, on: str | list[str] | None) -> Any:
        """One value for one column, a dict for several."""
        if on is None:
            known = self._fetch_schema()
            columns = known.names if known is not None else []
        else:
            columns = [on] if isinstance(on, str) else list(on)
        if not columns:
            if on is not None:
                raise ValueError("At least 1 column to aggregate on has to be provided")
            return None
        found = self.aggregate(*(make(name) for name in columns))
        if len(columns) == 1:
            return None if found is None else next(iter(found.values()))
        return found if found is not None else {make(name).name: None for name in columns}

    def sum(self, on: str | list[str] | None = None, ignore_nulls: bool = True) -> Any:
        """Sum of a column, or a dict of several; of all without `on`. None for no rows."""
        return self._aggregate_columns(lambda name: Sum(name, ignore_nulls), on)

    def min(self, on: str | list[str] | None = None, ignore_nulls: bool = True) -> Any:
        """Smallest value."""
        return self._aggregate_columns(lambda name: Min(name, ignore_nulls), on)

    def max(self, on: str | list[str] | None = None, ignore_nulls: bool = True) -> Any:
        """Largest value."""
        return self._aggregate_columns(lambda name: Max(name, ignore_nulls), on)

    def mean(self, on: str | list[str] | None = None, ignore_nulls: bool = True) -> Any:
        """Mean."""
        return self._aggregate_columns(lambda name: Mean(name, ignore_nulls), on)

    def std(self, on: str | list[str] | None = None, ddof: int = 1, ignore_nulls: bool = True) -> Any:
        """Standard deviation."""
        return self._aggregate_columns(lambda name: Std(name, ddof, ignore_nulls), on)

    def unique(self, column: str, ignore_nulls: bool = False) -> list[Any]:
        """The distinct values of a column, in no order. Runs the plan."""
        self._require_columns([column], "a column to aggregate")
        found = self.aggregate(Unique(column, ignore_nulls=ignore_nulls))
        return next(iter(found.values())) if found else []


def _check_overlap(
    left: DatasetBase,
    right: DatasetBase,
    kind: str,
    left_on: tuple[str, ...],
    right_on: tuple[str, ...],
    left_suffix: str | None,
    right_suffix: str | None,
) -> None:
    """ValueError when columns of both sides would have the same name."""
    if kind.endswith(("semi", "anti")) or (left_suffix or "") != (right_suffix or ""):
        return
    mine, theirs = left._known_schema(), right._known_schema()
    if mine is None or theirs is None:
        return
    both = (set(mine.names) - set(left_on)) & (set(theirs.names) - set(right_on))
    if both:
        raise ValueError(
            f"Left and right columns suffixes cannot be the same: both sides have {sorted(both)}. Pass `left_suffix` or "
            "`right_suffix` to tell them apart."
        )
