"""Operators: the driver's side of a step of a physical plan. Base class, and those that run no tasks of their own.

An operator takes bundles, has tasks to start, and puts bundles out. The executor moves bundles along, asks the scheduler
who may start a task, and hands finished pieces back. Invariants: bundles come out in the order of the rows (unless an
operator says otherwise); an operator that is done starts nothing and puts nothing out any more.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import Any

from raybook.data.block import BlockReport, Bundle
from raybook.data.core.scheduler import OperatorView


@dataclass
class OperatorStats:
    """What an operator has done so far. Seconds are summed over tasks."""

    tasks_started: int = 0
    tasks_done: int = 0
    tasks_failed: int = 0
    rows: int = 0
    bytes: int = 0
    blocks: int = 0
    wall_s: float = 0.0
    cpu_s: float = 0.0
    block_walls: list[float] = field(default_factory=list)
    block_rows: list[int] = field(default_factory=list)
    block_bytes: list[int] = field(default_factory=list)
    nodes: dict[str, int] = field(default_factory=dict)
    started_at: float | None = None
    ended_at: float | None = None

    def count(self, report: BlockReport) -> None:
        metadata, stats = report.metadata, report.metadata.exec_stats
        self.rows += metadata.num_rows or 0
        self.bytes += metadata.size_bytes or 0
        self.blocks += 1
        self.block_rows.append(metadata.num_rows or 0)
        self.block_bytes.append(metadata.size_bytes or 0)
        if stats is not None:
            self.wall_s += stats.wall_time_s or 0.0
            self.cpu_s += stats.cpu_time_s or 0.0
            self.block_walls.append(stats.wall_time_s or 0.0)
            if stats.node_id:
                self.nodes[stats.node_id] = self.nodes.get(stats.node_id, 0) + 1
            if stats.start_time_s is not None:
                self.started_at = min(self.started_at or stats.start_time_s, stats.start_time_s)
            if stats.end_time_s is not None:
                self.ended_at = max(self.ended_at or stats.end_time_s, stats.end_time_s)


class RunningTask:
    """A task in flight. stream: its generator. expected_bytes: what it is counted with until it ends."""

    __slots__ = ("expected_bytes", "info", "number", "operator", "seen_bytes", "stream")

    def __init__(self, operator: Operator, number: int, stream: Any, expected_bytes: int, info: Any = None) -> None:
        self.operator, self.number, self.stream = operator, number, stream
        self.expected_bytes, self.info = expected_bytes, info
        self.seen_bytes = 0


class Operator:
    """Base. A subclass overrides what it needs."""

    is_barrier = False
    """Whether it must have all of its input before it puts anything out: then its input is no matter of back-pressure."""
    counts_memory = True

    def __init__(self, name: str, inputs: list[Operator]) -> None:
        self.name = name
        self.inputs = inputs
        self.outputs: deque[Bundle] = deque()
        self.running: set[RunningTask] = set()
        self.stats = OperatorStats()
        self.is_halted = False
        self._open_inputs = len(inputs)

    # What comes in

    def add_input(self, port: int, bundle: Bundle) -> None:
        raise NotImplementedError

    def input_done(self, port: int) -> None:
        self._open_inputs -= 1

    @property
    def inputs_done(self) -> bool:
        return self._open_inputs == 0

    # What it does

    def tasks_ready(self) -> int:
        """How many tasks could start now."""
        return 0

    def slots_free(self) -> int | None:
        return None

    def start_task(self) -> RunningTask:
        raise NotImplementedError

    def task_output(self, task: RunningTask, ref: Any, report: BlockReport) -> None:
        raise NotImplementedError

    def task_done(self, task: RunningTask) -> None:
        raise NotImplementedError

    def task_failed(self, task: RunningTask, error: BaseException) -> None:
        """Only for failures that the settings allow: go on without the task's blocks."""
        self.task_done(task)

    def begin(self) -> None:
        """Execution starts."""

    def end(self) -> None:
        """Execution is over, well or not: give back what it holds."""

    def wants_no_more(self) -> bool:
        """Whether its inputs may stop: it has all that it will ever use."""
        return self.is_halted

    def halt(self) -> None:
        """Nobody wants its output any more."""
        self.is_halted = True
        self.outputs.clear()

    @property
    def is_done(self) -> bool:
        """It will put nothing out beyond what is in `outputs`."""
        return self.is_halted or (self.inputs_done and not self.running and not self.tasks_ready())

    # What the scheduler sees

    def held_bytes(self) -> int:
        """Bytes of output that it holds back beside `outputs`."""
        return 0

    def waiting_bytes(self) -> int:
        """Bytes of input that it has taken in and not worked on."""
        return 0

    def bytes_per_task(self) -> int:
        return 0

    def cpus_and_gpus(self) -> tuple[float, float]:
        return 0.0, 0.0

    def view(self, index: int, consumers: list[Operator]) -> OperatorView:
        cpus, gpus = self.cpus_and_gpus()
        waiting = sum(consumer.waiting_bytes() for consumer in consumers if not consumer.is_barrier)
        return OperatorView(
            index=index,
            tasks_ready=0 if self.is_halted else self.tasks_ready(),
            slots_free=self.slots_free(),
            cpus=cpus,
            gpus=gpus,
            running=len(self.running),
            running_bytes=sum(max(0, task.expected_bytes - task.seen_bytes) for task in self.running),
            queued_bytes=sum(bundle.size_bytes for bundle in self.outputs) + self.held_bytes() + waiting,
            bytes_per_task=self.bytes_per_task(),
            is_done=self.is_done,
            counts_memory=self.counts_memory and not (consumers and all(one.is_barrier for one in consumers)),
        )


class InputOperator(Operator):
    """Blocks that are there already."""

    counts_memory = False

    def __init__(self, name: str, bundles: list[Bundle]) -> None:
        super().__init__(name, [])
        self.outputs.extend(bundles)


class UnionOperator(Operator):
    """All of one input after the other; what comes early from a later one waits."""

    def __init__(self, inputs: list[Operator]) -> None:
        super().__init__("Union", inputs)
        self._waiting: list[deque[Bundle]] = [deque() for _ in inputs]
        self._ended = [False] * len(inputs)
        self._current = 0

    def add_input(self, port: int, bundle: Bundle) -> None:
        self._waiting[port].append(bundle)
        self._pass_on()

    def input_done(self, port: int) -> None:
        super().input_done(port)
        self._ended[port] = True
        self._pass_on()

    def _pass_on(self) -> None:
        while self._current < len(self._waiting):
            queue = self._waiting[self._current]
            self.outputs.extend(queue)
            queue.clear()
            if not self._ended[self._current]:
                return
            self._current += 1

    def held_bytes(self) -> int:
        return sum(bundle.size_bytes for queue in self._waiting for bundle in queue)
