"""Recipes that bring rows together: hash partitions, random shuffles, sorts by ranges.

All have two stages: each block is cut into parts, and the parts of a partition are joined. The parts lie in the store,
which spills what it cannot hold.
"""

from __future__ import annotations

import math
from collections.abc import Generator, Sequence
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa

from raybook.data.block import Bundle, concat_blocks, unify_schemas
from raybook.data.context import DataContext
from raybook.data.execution.exchange import Call, Made, Stage
from raybook.data.execution.programs import Apply, ApplyMany
from raybook.data.keys import hash_split, range_split, sort_table, split_by
from raybook.data.random_seed import block_rng

Steps = Generator[Stage, list[list[Made]], None]

SAMPLES_PER_BLOCK = 512
"""Rows of a block that speak for it when ranges are chosen: partitions differ by a few percent then."""
SPLIT_SEED = 1
JOIN_SEED = 2


def partitions_for(total_bytes: int, blocks: int, context: DataContext, cpus: float) -> int:
    """How many partitions, where the user does not say: one for what is small, else as many as there are CPUs, more
    where each would be much larger than a block should be."""
    if total_bytes <= context.target_min_block_size or blocks <= 0:
        return 1
    target = context.target_max_block_size or total_bytes
    by_size = math.ceil(total_bytes / target)
    return max(1, min(max(by_size, int(cpus)), max(context.default_hash_shuffle_parallelism, by_size)))


def filled(bundles: list[Bundle]) -> list[Bundle]:
    """Without blocks that have no rows, but for one when all are like that."""
    return [bundle for bundle in bundles if bundle.num_rows] or bundles[:1]


def transpose(parts: list[list[Made]], count: int) -> list[list[Bundle]]:
    """By partition what calls made by block; parts without rows are left out, but for one."""
    columns = [[made[index].bundle for made in parts] for index in range(count)]
    return [filled(column) for column in columns]


def hash_partition(
    bundles: list[Bundle], keys: Sequence[str], count: int, sort_keys: Sequence[str] = (), finish: Any = None
) -> Steps:
    """count blocks, rows with equal keys in one of them. finish: a function of the parts of a partition, instead of
    joining them (and sorting by `sort_keys`)."""
    last = finish or partial(join_parts, sort_keys=tuple(sort_keys))
    if not bundles:
        return
    if count == 1:
        yield Stage([Call(Apply(last), filled(bundles))], is_last=True)
        return
    program = ApplyMany(partial(hash_parts, keys=tuple(keys), count=count))
    parts = yield Stage([Call(program, [bundle]) for bundle in filled(bundles)])
    yield Stage([Call(Apply(last), column) for column in transpose(parts, count)], is_last=True)


def hash_parts(tables: list[pa.Table], number: int, keys: tuple[str, ...], count: int) -> list[pa.Table]:
    return hash_split(tables[0], keys, count)


def join_parts(tables: list[pa.Table], sort_keys: tuple[str, ...]) -> pa.Table:
    whole = concat_blocks(tables)
    return sort_table(whole, sort_keys, [False] * len(sort_keys)) if sort_keys else whole


# Random shuffle


def random_shuffle(bundles: list[Bundle], count: int, seed: Any) -> Steps:
    """Each row goes to a random block and a random place in it; the same for the same seed and blocks."""
    if not bundles:
        return
    # One draw for the whole shuffle, so that a retried task of a shuffle without a seed puts rows where it did.
    drawn = int(block_rng(seed, 0).integers(1 << 62))
    program = ApplyMany(partial(random_parts, count=count, seed=drawn))
    last = ApplyMany(partial(random_join, seed=drawn))
    if count == 1:
        yield Stage([Call(last, filled(bundles))], is_last=True)
        return
    parts = yield Stage([Call(program, [bundle]) for bundle in filled(bundles)])
    yield Stage([Call(last, column) for column in transpose(parts, count)], is_last=True)


def random_parts(tables: list[pa.Table], number: int, count: int, seed: int) -> list[pa.Table]:
    table = tables[0]
    rng = np.random.default_rng((seed, SPLIT_SEED, number))
    return split_by(table, rng.integers(0, count, table.num_rows), count)


def random_join(tables: list[pa.Table], number: int, seed: int) -> list[pa.Table]:
    whole = concat_blocks(tables)
    rng = np.random.default_rng((seed, JOIN_SEED, number))
    return [whole.take(pa.array(rng.permutation(whole.num_rows))) if whole.num_rows > 1 else whole]


# Sort


def sort(
    bundles: list[Bundle],
    keys: tuple[str, ...],
    descending: tuple[bool, ...],
    boundaries: tuple[Any, ...] | None,
    context: DataContext,
    cpus: float,
    finish: Any = None,
) -> Steps:
    """Rows in order. Ranges are chosen from a sample of each block, unless boundaries are given. finish: a function of
    a range's parts instead of joining and sorting them."""
    if not bundles:
        return
    bundles = filled(bundles)
    last = Apply(finish or partial(sorted_join, keys=keys, descending=descending))
    total = sum(bundle.size_bytes for bundle in bundles)
    if boundaries is None:
        count = partitions_for(total, len(bundles), context, cpus)
        if count == 1:
            yield Stage([Call(last, bundles)], is_last=True)
            return
        sample = ApplyMany(partial(sample_keys, keys=keys))
        sampled = yield Stage([Call(sample, [bundle]) for bundle in bundles])
        limits = choose_boundaries([one.extra for made in sampled for one in made], keys, descending, count)
    else:
        limits = given_boundaries(boundaries, bundles, keys[0])
    program = ApplyMany(partial(range_parts, keys=keys, descending=descending, limits=limits))
    parts = yield Stage([Call(program, [bundle]) for bundle in bundles])
    yield Stage([Call(last, column) for column in transpose(parts, limits.num_rows + 1)], is_last=True)


def sample_keys(tables: list[pa.Table], number: int, keys: tuple[str, ...]) -> list[tuple[pa.Table, pa.Table]]:
    """No rows, and beside them the keys of a few rows, evenly spread."""
    table = tables[0].select(list(keys))
    count = min(SAMPLES_PER_BLOCK, table.num_rows)
    rows = np.linspace(0, max(0, table.num_rows - 1), count).astype(np.int64)
    if count == SAMPLES_PER_BLOCK:
        rows = np.unique(np.random.default_rng(number).integers(0, table.num_rows, count))
    return [(pa.table({}), table.take(pa.array(rows)).combine_chunks())]


def choose_boundaries(
    samples: list[pa.Table], keys: tuple[str, ...], descending: tuple[bool, ...], count: int
) -> pa.Table:
    """The keys at the quantiles of the samples, each once."""
    ordered = sort_table(concat_blocks(samples), keys, descending)
    rows = np.unique([ordered.num_rows * index // count for index in range(1, count)])
    chosen = ordered.take(pa.array(rows[rows < ordered.num_rows]))
    if chosen.num_rows > 1:
        values = list(zip(*(column.to_pylist() for column in chosen.columns), strict=True))
        fresh = [0] + [index for index in range(1, len(values)) if values[index] != values[index - 1]]
        chosen = chosen.take(pa.array(fresh))
    return chosen.combine_chunks()


def given_boundaries(boundaries: tuple[Any, ...], bundles: list[Bundle], key: str) -> pa.Table:
    schema = unify_schemas(bundle.schema for bundle in bundles)
    index = schema.get_field_index(key) if schema is not None else -1
    values = pa.array(list(boundaries))
    if schema is not None and index >= 0:
        kind = schema.field(index).type
        if not (pa.types.is_integer(kind) and pa.types.is_floating(values.type)):
            values = values.cast(kind)
    return pa.table({key: values})


def range_parts(
    tables: list[pa.Table], number: int, keys: tuple[str, ...], descending: tuple[bool, ...], limits: pa.Table
) -> list[pa.Table]:
    return range_split(tables[0], keys, descending, limits)


def sorted_join(tables: list[pa.Table], keys: tuple[str, ...], descending: tuple[bool, ...]) -> pa.Table:
    return sort_table(concat_blocks(tables), keys, descending)
