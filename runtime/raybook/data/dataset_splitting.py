"""Splits: a dataset as several, by number, by position or by share."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from raybook.data.block import Bundle
from raybook.data.core.partition_math import equal_split_bounds, even_bounds, proportional_bounds
from raybook.data.core.plan import Map
from raybook.data.dataset_base import DatasetBase
from raybook.data.execution.cluster import limits_of
from raybook.data.execution.exchange import ExchangeOperator, Stage
from raybook.data.execution.executor import Executor
from raybook.data.execution.operator import InputOperator
from raybook.data.execution.recipes import slice_calls
from raybook.data.execution.task_launcher import Launcher
from raybook.data.keys import hash_rows
from raybook.data.random_seed import seed_value
from raybook.data.split_stream import split_stream
from raybook.data.transforms import RandomSide, TableFunction, Transform

if TYPE_CHECKING:
    from raybook.data.dataset import Dataset, MaterializedDataset
    from raybook.data.iterator import DataIterator


class DatasetSplitting(DatasetBase):
    """Part of Dataset."""

    def streaming_split(
        self, n: int, *, equal: bool = False, locality_hints: list[str] | None = None
    ) -> list[DataIterator]:
        """n iterators over disjoint shards of one execution, for n consumers that read at the same time. equal: exactly
        the same number of rows each, the rest is dropped."""
        if not isinstance(n, int) or n <= 0:
            raise ValueError(f"The number of splits {n} must be positive.")
        if locality_hints is not None and len(locality_hints) != n:
            raise ValueError(f"The length of locality_hints {len(locality_hints)} must equal the number of splits {n}.")
        return split_stream(self, n, equal)

    def split(
        self, n: int, *, equal: bool = False, locality_hints: list[Any] | None = None
    ) -> list[MaterializedDataset]:
        """n datasets of whole blocks where there are enough, in order. equal: of exactly the same number of rows, the
        rest is dropped."""
        if not isinstance(n, int) or n <= 0:
            raise ValueError(f"The number of splits {n} is not positive.")
        if locality_hints is not None and len(locality_hints) != n:
            raise ValueError(
                f"The length of locality_hints {len(locality_hints)} doesn't equal the number of splits {n}."
            )
        bundles = list(self._bundles())
        total = sum(bundle.num_rows for bundle in bundles)
        if equal:
            return self._cut(bundles, equal_split_bounds(total, n))
        filled = [bundle for bundle in bundles if bundle.num_rows]
        if len(filled) < n:
            return self._cut(bundles, even_bounds(total, n))
        bounds = even_bounds(len(filled), n)
        return [self._materialized(filled[start:end]) for start, end in zip(bounds[:-1], bounds[1:], strict=True)]

    def split_at_indices(self, indices: list[int]) -> list[MaterializedDataset]:
        """Datasets of the rows before the first index, from it to the second, ..., and the rest. ValueError when they are
        not in order, or negative."""
        if len(indices) < 1:
            raise ValueError("indices must be at least of length 1")
        if sorted(indices) != list(indices):
            raise ValueError("indices must be sorted")
        if indices[0] < 0:
            raise ValueError("indices must be positive")
        bundles = list(self._bundles())
        total = sum(bundle.num_rows for bundle in bundles)
        return self._cut(bundles, [0, *(min(index, total) for index in indices), total])

    def split_proportionately(self, proportions: list[float]) -> list[MaterializedDataset]:
        """Datasets of these shares, and the rest. ValueError when a share is not above 0, they come to 1 or more, or one
        would be empty."""
        if len(proportions) < 1:
            raise ValueError("proportions must be at least of length 1")
        if sum(proportions) >= 1:
            raise ValueError("proportions must sum to less than 1")
        if any(share <= 0 for share in proportions):
            raise ValueError("proportions must be bigger than 0")
        bundles = list(self._bundles())
        total = sum(bundle.num_rows for bundle in bundles)
        return self._cut(bundles, proportional_bounds(total, proportions))

    def train_test_split(
        self, test_size: int | float, *, shuffle: bool = False, seed: int | None = None, stratify: str | None = None
    ) -> tuple[MaterializedDataset, MaterializedDataset]:
        """Train rows and test rows. test_size: a share, or a number of rows. stratify: a column whose values are as
        frequent in both."""
        if not isinstance(test_size, (int, float)) or isinstance(test_size, bool):
            raise TypeError(f"`test_size` must be int or float got {type(test_size)}.")
        if isinstance(test_size, float) and not 0 < test_size < 1:
            raise ValueError(
                f"If `test_size` is a float, it must be bigger than 0 and smaller than 1. Got {test_size}."
            )
        if isinstance(test_size, int) and test_size <= 0:
            raise ValueError(f"If `test_size` is an int, it must be bigger than 0. Got {test_size}.")
        if stratify is not None:
            if shuffle:
                raise ValueError("stratify cannot be used with shuffle=True.")
            return self._stratified(test_size, stratify)
        dataset: Any = self
        if shuffle:
            dataset = dataset.random_shuffle(seed=seed)
        bundles = list(dataset._bundles())
        total = sum(bundle.num_rows for bundle in bundles)
        if isinstance(test_size, int) and test_size >= total:
            raise ValueError(
                f"If `test_size` is an int, it must be smaller than the size of the dataset. Got {test_size} for {total} "
                "rows."
            )
        test_rows = test_size if isinstance(test_size, int) else max(1, int(total * test_size))
        train, test = self._cut(bundles, [0, total - test_rows, total])
        return train, test

    def _stratified(self, test_size: int | float, column: str) -> tuple[MaterializedDataset, MaterializedDataset]:
        self._require_columns([column], "a column to stratify by")
        dataset: Any = self
        share = test_size if isinstance(test_size, float) else test_size / max(1, dataset.count())
        marked = (
            dataset.groupby(column).map_groups(partial(_mark_share, share=share), batch_format="pyarrow").materialize()
        )
        sides = []
        for is_test in (False, True):
            side = marked._derive(Map((marked._plan,), TableFunction(partial(_take_side, is_test=is_test)), "Side"))
            sides.append(side.materialize())
        return sides[0], sides[1]

    def streaming_train_test_split(
        self,
        test_size: float,
        *,
        split_type: str = "random",
        hash_column: str | None = None,
        seed: int | None = None,
        **ray_remote_kwargs: Any,
    ) -> tuple[Dataset, Dataset]:
        """Train and test rows as two lazy datasets, without materializing: by chance, or by the hash of a column."""
        if not 0 < test_size < 1:
            raise ValueError(f"`test_size` must be between 0 and 1, got {test_size}.")
        if split_type not in ("hash", "random"):
            raise ValueError(f"Invalid split type: {split_type!r}. Must be 'hash' or 'random'.")
        if split_type == "hash":
            if hash_column is None:
                raise ValueError("hash_column is required for hash split")
            if seed is not None:
                raise ValueError("seed is not supported for hash split")
            sides: list[Transform] = [
                TableFunction(partial(_hash_side, column=hash_column, share=test_size, is_test=is_test))
                for is_test in (False, True)
            ]
        else:
            if hash_column is not None:
                raise ValueError("hash_column is not supported for random split")
            drawn = seed_value(seed)
            if drawn is None:
                drawn = int(np.random.default_rng().integers(1 << 31))
            sides = [RandomSide(test_size, drawn, is_test) for is_test in (False, True)]
        train, test = (self._derive(Map((self._plan,), side, "TrainTestSplit")) for side in sides)
        return train, test

    def _cut(self, bundles: list[Bundle], bounds: Sequence[int]) -> list[MaterializedDataset]:
        """Datasets of ranges of rows; blocks are cut by tasks where a bound is in them."""
        parts = list(zip(bounds[:-1], bounds[1:], strict=True))
        if not bundles:
            return [self._materialized([]) for _ in parts]
        launcher = Launcher(self._context)

        def recipe(inputs: list[list[Bundle]]) -> Any:
            calls = []
            for start, end in parts:
                inner = _block_bounds([bundle.num_rows for bundle in inputs[0]], start, end)
                made = slice_calls(inputs[0], inner)
                counts.append(len(made))
                calls += made
            yield Stage(calls, is_last=True)

        counts: list[int] = []
        source = InputOperator("Input", bundles)
        exchange = ExchangeOperator("Split", [source], recipe, launcher, {})
        made = list(Executor([source, exchange], limits_of(self._context), self._context).run())
        datasets = []
        at = 0
        for count in counts:
            datasets.append(self._materialized(made[at : at + count]))
            at += count
        return datasets


def _block_bounds(counts: Sequence[int], start: int, end: int) -> list[int]:
    """start and end, and the ends of blocks between them: so that whole blocks stay as they are."""
    ends = np.cumsum(counts).tolist()
    return [start, *sorted({value for value in ends if start < value < end}), end]


SIDE = "__is_test__"


def _mark_share(table: pa.Table, share: float) -> pa.Table:
    rows = table.num_rows
    test_rows = max(1, int(rows * share + 0.5)) if rows > 1 else 0
    return table.append_column(SIDE, pa.array(np.arange(rows) >= rows - test_rows))


def _take_side(table: pa.Table, is_test: bool) -> pa.Table:
    if SIDE not in table.column_names:
        return table
    mask = table.column(SIDE)
    kept = table.filter(mask if is_test else pc.invert(mask))
    return kept.drop_columns([SIDE])


def _hash_side(table: pa.Table, column: str, share: float, is_test: bool) -> pa.Table:
    if not table.num_rows:
        return table
    places = (hash_rows(table, [column]) >> np.uint64(11)).astype(np.float64) / float(1 << 53)
    return table.filter(pa.array((places < share) == is_test))
