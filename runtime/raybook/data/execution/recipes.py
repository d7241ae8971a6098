"""Recipes of what needs all of its input: which calls make the result. This file: those that move rows by position.

A recipe decides from metadata alone; rows move in the workers' programs.
"""

from __future__ import annotations

import math
from collections.abc import Generator, Sequence
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa

from raybook.data.block import Bundle, concat_blocks
from raybook.data.context import DataContext
from raybook.data.core import plan as nodes
from raybook.data.core.partition_math import even_bounds, pieces_of
from raybook.data.execution.aggregate_recipes import aggregate, map_groups
from raybook.data.execution.exchange import Call, Made, Recipe, Stage
from raybook.data.execution.join_recipe import join
from raybook.data.execution.programs import Apply, TakeSlices
from raybook.data.execution.shuffle_recipes import hash_partition, random_shuffle, sort
from raybook.data.random_seed import block_rng

Steps = Generator[Stage, list[list[Made]], None]


def recipe_for(node: nodes.Node, context: DataContext, cpus: float) -> tuple[Recipe, dict[str, Any]]:
    """The recipe of a step, and the options of its tasks."""
    if isinstance(node, nodes.Repartition):
        if node.keys:
            return partial(_repartition_by_keys, node=node), {}
        if node.shuffle:
            return partial(_shuffle, seed=None, num_blocks=node.num_blocks), {}
        return partial(_repartition, node=node), {}
    if isinstance(node, nodes.RandomShuffle):
        return partial(_shuffle, seed=node.seed, num_blocks=node.num_blocks), dict(node.remote_args)
    if isinstance(node, nodes.RandomizeBlocks):
        return partial(_randomize_blocks, seed=node.seed), {}
    if isinstance(node, nodes.Zip):
        return _zip, {}
    if isinstance(node, nodes.Mix):
        return partial(_mix, node=node), {}
    if isinstance(node, nodes.Sort):
        return partial(_sort, node=node, context=context, cpus=cpus), {}
    if isinstance(node, nodes.Aggregate):
        return partial(aggregate, node=node, context=context, cpus=cpus), {}
    if isinstance(node, nodes.MapGroups):
        return partial(map_groups, node=node, context=context, cpus=cpus), dict(node.resources.remote_args)
    if isinstance(node, nodes.Join):
        return partial(join, node=node), dict(node.remote_args)
    raise TypeError(f"no recipe for {node.name}")


def _sort(inputs: list[list[Bundle]], node: nodes.Sort, context: DataContext, cpus: float) -> Steps:
    return sort(inputs[0], node.keys, node.descending, node.boundaries, context, cpus)


def _shuffle(inputs: list[list[Bundle]], seed: Any, num_blocks: int | None) -> Steps:
    return random_shuffle(inputs[0], num_blocks or max(1, len(inputs[0])), seed)


def _repartition_by_keys(inputs: list[list[Bundle]], node: nodes.Repartition) -> Steps:
    count = node.num_blocks or max(1, len(inputs[0]))
    return hash_partition(inputs[0], node.keys, count, sort_keys=node.keys if node.sort else ())


def _repartition(inputs: list[list[Bundle]], node: nodes.Repartition) -> Steps:
    bundles = inputs[0]
    total = sum(bundle.num_rows for bundle in bundles)
    if node.num_blocks is not None:
        bounds = even_bounds(total, node.num_blocks)
    else:
        target = node.target_rows or 1
        bounds = [min(index * target, total) for index in range(max(1, math.ceil(total / target)) + 1)]
    yield Stage(slice_calls(bundles, bounds, node.sort and node.keys or ()), is_last=True)


def slice_calls(bundles: list[Bundle], bounds: Sequence[int], sort_keys: Sequence[str] = ()) -> list[Call]:
    """A call for each range of rows; none where a range is just one bundle, or has no rows and a bundle is there."""
    counts = [bundle.num_rows for bundle in bundles]
    calls = []
    for start, end in zip(bounds[:-1], bounds[1:], strict=True):
        pieces = pieces_of(counts, start, end)
        if not pieces and bundles:
            calls.append(Call(TakeSlices([(0, 0)]), [bundles[0]]))
        elif len(pieces) == 1 and pieces[0][2] == counts[pieces[0][0]]:
            calls.append(Call(None, [bundles[pieces[0][0]]]))
        else:
            slices = [(offset, length) for _, offset, length in pieces]
            calls.append(Call(TakeSlices(slices), [bundles[index] for index, _, _ in pieces]))
    return calls


def _randomize_blocks(inputs: list[list[Bundle]], seed: Any) -> Steps:
    bundles = inputs[0]
    order = block_rng(seed, 0).permutation(len(bundles))
    yield Stage([Call(None, [bundles[int(index)]]) for index in order], is_last=True)


def _zip(inputs: list[list[Bundle]]) -> Steps:
    totals = [sum(bundle.num_rows for bundle in bundles) for bundles in inputs]
    if len(set(totals)) > 1:
        raise ValueError(f"Cannot zip datasets of different number of rows: {', '.join(map(str, totals))}")
    first = [bundle for bundle in inputs[0] if bundle.num_rows] or inputs[0][:1]
    calls = []
    start = 0
    for bundle in first:
        end = start + bundle.num_rows
        bundles = [bundle]
        slices = [[(0, bundle.num_rows)]]
        for others in inputs[1:]:
            pieces = pieces_of([one.num_rows for one in others], start, end) or ([(0, 0, 0)] if others else [])
            bundles += [others[index] for index, _, _ in pieces]
            slices.append([(offset, length) for _, offset, length in pieces])
        calls.append(Call(Apply(partial(zip_tables, slices=slices)), bundles))
        start = end
    yield Stage(calls, is_last=True)


def zip_tables(tables: list[pa.Table], slices: list[list[tuple[int, int]]]) -> pa.Table:
    """Tables side by side. slices: for each side, what to take of its tables in order. A name that is taken gets "_1",
    "_2", ... as with Ray."""
    columns: dict[str, Any] = {}
    at = 0
    for side in slices:
        pieces = []
        for offset, length in side:
            pieces.append(tables[at].slice(offset, length))
            at += 1
        whole = concat_blocks(pieces)
        for name, column in zip(whole.column_names, whole.columns, strict=True):
            unique, number = name, 1
            while unique in columns:
                unique, number = f"{name}_{number}", number + 1
            columns[unique] = column
    return pa.table(list(columns.values()), names=list(columns))


def _mix(inputs: list[list[Bundle]], node: nodes.Mix) -> Steps:
    """Blocks of all inputs by weight: the input that is furthest behind its share of rows gives the next."""
    queues = [list(bundles) for bundles in inputs]
    weights = np.array(node.weights, float)
    given = np.zeros(len(queues))
    order = []
    stops_at_first = "SHORTEST" in node.stopping.upper()
    while any(queues):
        alive = [index for index, queue in enumerate(queues) if queue]
        if stops_at_first and len(alive) < len(queues):
            break
        chosen = min(alive, key=lambda index: given[index] / weights[index])
        bundle = queues[chosen].pop(0)
        given[chosen] += max(1, bundle.num_rows)
        order.append(bundle)
    yield Stage([Call(None, [bundle]) for bundle in order], is_last=True)
