"""Programs: what one task does with its input blocks. A program is pickled once for an operator, and runs many times.

Each program is called with its inputs and the task's context, and yields blocks, or (block, extra) where the driver
wants to know more of a block than its size. Only `MapProgram` shapes its output; the others yield exactly the blocks
that the driver counts on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import pyarrow as pa

from raybook.data.batches import to_block
from raybook.data.block import concat_blocks, size_of
from raybook.data.datasource.datasource import ReadTask
from raybook.data.datasource.task_context import TaskContext
from raybook.data.transforms import Run, Transform

Output = Any  # a table, or a pair of a table and what the driver is to know of it

SPLIT_FACTOR = 1.5
"""A block is cut when it is so many times larger than the target, as Ray does it: pieces just under it help nobody."""


AS_MADE = -1
"""A target that leaves blocks as their transform makes them."""


class Program:
    """Base. `prepare` runs once in each process that runs the program."""

    def prepare(self) -> None:
        """Make what calls share (instances of classes)."""

    def __call__(self, inputs: Sequence[Any], context: TaskContext) -> Iterator[Output]:
        raise NotImplementedError


class MapProgram(Program):
    """A chain of transforms over blocks, or over the blocks of read tasks. target_bytes: of an output block, None: one
    block a task whatever its size."""

    def __init__(self, transforms: Sequence[Transform], target_bytes: int | None) -> None:
        self.transforms, self.target_bytes = list(transforms), target_bytes
        self._runs: list[Run] = []

    def __getstate__(self) -> dict[str, Any]:
        return {"transforms": self.transforms, "target_bytes": self.target_bytes, "_runs": []}

    def prepare(self) -> None:
        self._runs = [transform.make() for transform in self.transforms]

    def __call__(self, inputs: Sequence[Any], context: TaskContext) -> Iterator[Output]:
        blocks: Iterator[pa.Table] = _blocks_of(inputs)
        for run in self._runs:
            blocks = run(blocks, context)
        return shape(blocks, context.target_max_block_size_override or self.target_bytes)


def _blocks_of(inputs: Sequence[Any]) -> Iterator[pa.Table]:
    for item in inputs:
        if isinstance(item, ReadTask):
            for block in item():
                yield to_block(block)
        else:
            yield to_block(item)


def shape(blocks: Iterable[pa.Table], target_bytes: int | None) -> Iterator[pa.Table]:
    """Blocks of about `target_bytes`: small ones joined, large ones cut, at least one (without rows if need be)."""
    if target_bytes == AS_MADE:
        yield from blocks
        return
    kept: list[pa.Table] = []
    kept_bytes = 0
    empty: pa.Table | None = None
    yielded = False
    for block in blocks:
        if not block.num_rows:
            if empty is None or not empty.num_columns:
                empty = block
            continue
        kept.append(block)
        kept_bytes += size_of(block)
        if target_bytes is not None and kept_bytes >= target_bytes:
            yield from cut(concat_blocks(kept), target_bytes)
            kept, kept_bytes, yielded = [], 0, True
    if kept:
        yield from cut(concat_blocks(kept), target_bytes)
    elif not yielded:
        yield empty if empty is not None else pa.table({})


def cut(table: pa.Table, target_bytes: int | None) -> Iterator[pa.Table]:
    """One block, or several of about the target if it is much larger."""
    size = size_of(table)
    if target_bytes is None or size <= target_bytes * SPLIT_FACTOR or table.num_rows <= 1:
        yield table
        return
    rows = max(1, int(table.num_rows * target_bytes / size))
    for start in range(0, table.num_rows, rows):
        yield table.slice(start, rows)


class TakeSlices(Program):
    """One block of pieces of its inputs: (start, length) for each."""

    def __init__(self, slices: Sequence[tuple[int, int]]) -> None:
        self.slices = list(slices)

    def __call__(self, inputs: Sequence[Any], context: TaskContext) -> Iterator[Output]:
        pieces = [table.slice(start, length) for table, (start, length) in zip(inputs, self.slices, strict=True)]
        yield concat_blocks(pieces)


class Apply(Program):
    """A function of ours from the list of inputs to one block: importable, or a partial of something importable."""

    def __init__(self, fn: Callable[[list[pa.Table]], pa.Table]) -> None:
        self.fn = fn

    def __call__(self, inputs: Sequence[Any], context: TaskContext) -> Iterator[Output]:
        yield self.fn(list(inputs))


class ApplyMany(Program):
    """A function of ours from the list of inputs and the task's number to several outputs."""

    def __init__(self, fn: Callable[[list[pa.Table], int], Iterable[Output]]) -> None:
        self.fn = fn

    def __call__(self, inputs: Sequence[Any], context: TaskContext) -> Iterator[Output]:
        yield from self.fn(list(inputs), context.task_idx)
