"""The worker's side: runs a program over the blocks of a task, and tells the driver about each block it makes.

A task is a stream of pairs: a block, then its `BlockReport`. The report comes second, so whoever has it knows that the
block is stored. Programs are kept by key, so that a worker unpickles each once.
"""

from __future__ import annotations

import pickle
import threading
import time
from collections import OrderedDict
from collections.abc import Iterator
from typing import Any

import pyarrow as pa

from raybook.api import get_runtime_context, method, remote
from raybook.data.block import BlockExecStats, BlockMetadata, BlockReport, size_of
from raybook.data.context import DataContext
from raybook.data.datasource.task_context import TaskContext
from raybook.data.execution.programs import Program

PROGRAMS_KEPT_MAX = 8
"""A program may hold a model: few are kept, and two datasets at a time still find theirs."""


class Shipment:
    """A pickled program and its context on their way. Small ones travel along; a large one is an object of the store,
    whose ref is an argument of its own, so that it is there when the task starts."""

    __slots__ = ("key", "op_name", "payload")

    def __init__(self, key: str, op_name: str, payload: bytes | None) -> None:
        self.key, self.op_name, self.payload = key, op_name, payload

    def open(self, large: Any) -> tuple[Program, DataContext]:
        return pickle.loads(self.payload if self.payload is not None else large)


class _Programs:
    """Programs that this process has unpickled, the latest used last. Threads of one actor share it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._kept: OrderedDict[str, tuple[Program, DataContext]] = OrderedDict()

    def get(self, shipment: Shipment, large: Any) -> tuple[Program, DataContext]:
        with self._lock:
            found = self._kept.get(shipment.key)
            if found is not None:
                self._kept.move_to_end(shipment.key)
                return found
        program, context = shipment.open(large)
        with DataContext.current(context):
            program.prepare()
        with self._lock:
            self._kept[shipment.key] = (program, context)
            while len(self._kept) > PROGRAMS_KEPT_MAX:
                self._kept.popitem(last=False)
        return program, context


_programs = _Programs()


def _stream(
    program: Program, data_context: DataContext, inputs: tuple[Any, ...], context: TaskContext
) -> Iterator[pa.Table | BlockReport]:
    node = get_runtime_context().get_node_id()
    wall, cpu, start = time.perf_counter(), time.process_time(), time.time()
    with DataContext.current(data_context):
        outputs = iter(program(inputs, context))
    while True:
        # The context is this thread's only while the program runs, not while the reader lets the generator wait.
        with DataContext.current(data_context):
            output = next(outputs, None)
        if output is None:
            return
        block, extra = output if isinstance(output, tuple) else (output, None)
        made_wall, made_cpu = time.perf_counter(), time.process_time()
        stats = BlockExecStats(
            wall_time_s=made_wall - wall,
            cpu_time_s=made_cpu - cpu,
            start_time_s=start,
            end_time_s=time.time(),
            node_id=node,
            task_idx=context.task_idx,
        )
        yield block
        yield BlockReport(BlockMetadata(block.num_rows, size_of(block), stats), block.schema, extra)
        wall, cpu, start = time.perf_counter(), time.process_time(), time.time()


def _run_program(
    shipment: Shipment, large: Any, task_idx: int, target_bytes: int | None, *inputs: Any
) -> Iterator[Any]:
    """One task of an operator."""
    program, data_context = _programs.get(shipment, large)
    context = TaskContext(task_idx, shipment.op_name, target_bytes)
    yield from _stream(program, data_context, inputs, context)


def _convert_block(fn: Any, block: pa.Table) -> Any:
    """A block in another form, as an object of its own."""
    return fn(block)


# Under other names than the functions: so these travel by name, and share what this module keeps in a worker.
run_program = remote(num_returns="streaming")(_run_program)
convert_block = remote(_convert_block)


class PoolWorker:
    """An actor of a pool: makes the callable classes of its program once."""

    def __init__(self, shipment: Shipment, large: Any) -> None:
        self._op_name = shipment.op_name
        self._program, self._context = shipment.open(large)
        with DataContext.current(self._context):
            self._program.prepare()

    @method(num_returns="streaming")
    def run(self, task_idx: int, target_bytes: int | None, *inputs: Any) -> Iterator[Any]:
        """One task of the operator."""
        context = TaskContext(task_idx, self._op_name, target_bytes)
        yield from _stream(self._program, self._context, inputs, context)

    def ready(self) -> bool:
        """True, once the class has been made."""
        return True
