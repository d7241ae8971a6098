"""Map operators: a program over blocks (or read tasks), in tasks or in a pool of actors.

Work is taken in order and numbered; what comes out is put in the order of the numbers again, unless order does not
matter. Small inputs are gathered until a task has `rows_min` rows.
"""

from __future__ import annotations

from collections import deque
from typing import Any

from raybook.data.block import BlockReport, Bundle
from raybook.data.execution.operator import Operator, RunningTask
from raybook.data.execution.programs import MapProgram
from raybook.data.execution.task_launcher import Launcher

GROWTH_ASSUMED = 1.0
"""Output bytes for each byte of input, before any task has ended."""
BYTES_UNKNOWN = 32 * 1024 * 1024


class OrderedOutput:
    """Puts pieces of numbered tasks in order: the first unfinished task's go out at once, the others' wait."""

    def __init__(self, is_ordered: bool) -> None:
        self._is_ordered = is_ordered
        self._next = 0
        self._waiting: dict[int, list[Bundle]] = {}
        self._ended: set[int] = set()
        self.held_bytes = 0

    def add(self, number: int, bundle: Bundle, out: deque[Bundle]) -> None:
        if not self._is_ordered or number == self._next:
            out.append(bundle)
            return
        self._waiting.setdefault(number, []).append(bundle)
        self.held_bytes += bundle.size_bytes

    def end(self, number: int, out: deque[Bundle]) -> None:
        if not self._is_ordered:
            return
        self._ended.add(number)
        while self._next in self._ended:
            self._ended.discard(self._next)
            self._next += 1
            for bundle in self._waiting.pop(self._next, ()):
                self.held_bytes -= bundle.size_bytes
                out.append(bundle)

    def clear(self) -> None:
        self._waiting.clear()
        self.held_bytes = 0


class MapOperator(Operator):
    """read_tasks: for a read, which has no input operator. cap: tasks at a time, None: as the cluster allows."""

    def __init__(
        self,
        name: str,
        inputs: list[Operator],
        program: MapProgram,
        launcher: Launcher,
        *,
        options: dict[str, Any],
        options_fn: Any = None,
        cap: int | None = None,
        read_tasks: list[Any] | None = None,
        rows_min: int | None = None,
        bytes_min: int | None = None,
        is_ordered: bool = True,
        expected_bytes: int | None = None,
    ) -> None:
        super().__init__(name, inputs)
        self.program, self._launcher = program, launcher
        self._options, self._options_fn, self._cap = options, options_fn, cap
        self._rows_min, self._bytes_min = rows_min or 0, bytes_min or 0
        self._gathered: list[Bundle] = []
        self._gathered_rows = self._gathered_bytes = 0
        self._work: deque[tuple[list[Any], int]] = deque()
        self._work_bytes = 0
        self._shipment: Any = None
        self._number = 0
        self._ordered = OrderedOutput(is_ordered)
        self._expected_bytes = expected_bytes
        self._in_bytes = self._in_done_bytes = 0
        for one in read_tasks or ():
            self._work.append(([one], 0))
        self.is_read = read_tasks is not None

    # In

    def add_input(self, port: int, bundle: Bundle) -> None:
        self._gathered.append(bundle)
        self._gathered_rows += bundle.num_rows
        self._gathered_bytes += bundle.size_bytes
        if self._gathered_rows >= self._rows_min and self._gathered_bytes >= self._bytes_min:
            self._flush()

    def input_done(self, port: int) -> None:
        super().input_done(port)
        if self._gathered:
            self._flush()

    def _flush(self) -> None:
        filled = [bundle for bundle in self._gathered if bundle.num_rows] or self._gathered[:1]
        self._work.append((filled, self._gathered_bytes))
        self._work_bytes += self._gathered_bytes
        self._gathered, self._gathered_rows, self._gathered_bytes = [], 0, 0

    def begin(self) -> None:
        self._shipment = self._launcher.ship(self.program, self.name)

    # Tasks

    def tasks_ready(self) -> int:
        return len(self._work)

    def slots_free(self) -> int | None:
        return None if self._cap is None else self._cap - len(self.running)

    def start_task(self) -> RunningTask:
        items, size = self._work.popleft()
        self._work_bytes -= size
        number = self._number
        self._number += 1
        inputs = [item.ref if isinstance(item, Bundle) else item for item in items]
        stream = self._launch(number, inputs)
        # The bundles stay with the task: their blocks must live until it has ended.
        task = RunningTask(self, number, stream, self._estimate(size), (items, size))
        self.running.add(task)
        self.stats.tasks_started += 1
        return task

    def _launch(self, number: int, inputs: list[Any]) -> Any:
        options = dict(self._options)
        if self._options_fn is not None:
            options.update(self._options_fn())
        return self._launcher.start(self._shipment, self.name, number, inputs, options)

    def task_output(self, task: RunningTask, ref: Any, report: BlockReport) -> None:
        self.stats.count(report)
        task.seen_bytes += report.metadata.size_bytes or 0
        if not self.is_halted:
            self._ordered.add(task.number, self._bundle(ref, report), self.outputs)

    def _bundle(self, ref: Any, report: BlockReport) -> Bundle:
        return Bundle(ref, report.metadata, report.schema)

    def task_done(self, task: RunningTask) -> None:
        self.running.discard(task)
        self.stats.tasks_done += 1
        self._in_done_bytes += task.info[1]
        task.info = None
        self._ordered.end(task.number, self.outputs)

    def halt(self) -> None:
        super().halt()
        self._work.clear()
        self._gathered = []
        self._ordered.clear()

    # What the scheduler sees

    def held_bytes(self) -> int:
        return self._ordered.held_bytes

    def waiting_bytes(self) -> int:
        return self._work_bytes + self._gathered_bytes

    def bytes_per_task(self) -> int:
        return self._estimate(self._work[0][1] if self._work else 0)

    def _estimate(self, input_bytes: int) -> int:
        """Bytes that a task will put out: as its forerunners did, for its input."""
        done = self.stats.tasks_done
        if done:
            if self._in_done_bytes and input_bytes:
                return int(input_bytes * self.stats.bytes / self._in_done_bytes)
            return int(self.stats.bytes / done)
        if input_bytes:
            return int(input_bytes * GROWTH_ASSUMED)
        return self._expected_bytes if self._expected_bytes is not None else BYTES_UNKNOWN

    def cpus_and_gpus(self) -> tuple[float, float]:
        return float(self._options.get("num_cpus", 1) or 0), float(self._options.get("num_gpus", 0) or 0)
