"""Recipes of groups: aggregates of partial aggregates, and whole groups for a user's function.

The partial aggregates are made by a map before the exchange (see `planner`), so that what is moved is small.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from functools import partial
from typing import Any

from raybook.data.block import Bundle, concat_blocks
from raybook.data.context import DataContext
from raybook.data.core import plan as nodes
from raybook.data.datasource.task_context import TaskContext
from raybook.data.execution.exchange import Call, Made, Stage
from raybook.data.execution.programs import ApplyMany, MapProgram, Program
from raybook.data.execution.shuffle_recipes import filled, hash_partition, hash_parts, partitions_for, transpose
from raybook.data.grouping import merge_partials
from raybook.data.keys import sort_table
from raybook.data.transforms import Transform

Steps = Generator[Stage, list[list[Made]], None]


def aggregate(inputs: list[list[Bundle]], node: nodes.Aggregate, context: DataContext, cpus: float) -> Steps:
    """Blocks of partial aggregates to the result. Without keys, one row; none when there were no rows at all."""
    bundles = [bundle for bundle in inputs[0] if bundle.num_rows]
    count = 1
    if node.keys:
        total = sum(bundle.size_bytes for bundle in bundles)
        count = node.num_partitions or partitions_for(total, len(bundles), context, cpus)
    merge = partial(merge_partials, keys=node.keys, aggregations=node.aggregations)
    if not bundles:
        bundles = inputs[0][:1]
    yield from hash_partition(bundles, node.keys, count, finish=merge)


class GroupsProgram(Program):
    """Joins the parts of a partition, puts equal keys together, and runs a transform over them."""

    def __init__(self, transform: Transform, keys: Sequence[str], target_bytes: int | None) -> None:
        self.inner = MapProgram([transform], target_bytes)
        self.keys = tuple(keys)

    def prepare(self) -> None:
        self.inner.prepare()

    def __call__(self, inputs: Sequence[Any], context: TaskContext) -> Iterator[Any]:
        whole = sort_table(concat_blocks(inputs), self.keys, [False] * len(self.keys))
        return self.inner([whole], context)


def map_groups(inputs: list[list[Bundle]], node: nodes.MapGroups, context: DataContext, cpus: float) -> Steps:
    """Whole groups to the transform."""
    bundles = filled(inputs[0])
    if not bundles:
        return
    program = GroupsProgram(node.transform, node.keys, context.target_max_block_size)
    count = 1
    if node.keys:
        total = sum(bundle.size_bytes for bundle in bundles)
        count = node.num_partitions or partitions_for(total, len(bundles), context, cpus)
    if count == 1:
        yield Stage([Call(program, bundles)], is_last=True)
        return
    split = ApplyMany(partial(hash_parts, keys=node.keys, count=count))
    parts = yield Stage([Call(split, [bundle]) for bundle in bundles])
    yield Stage([Call(program, column) for column in transpose(parts, count)], is_last=True)
