"""Exchange: an operator that needs all of its input before it can say what to do: sorts, shuffles, joins, zips.

What it does is a *recipe*: a generator that is given the bundles of each input, yields stages (lists of calls) and gets
back what the calls made. The last stage's blocks go out in order. Partitions that a stage leaves behind are freed as
soon as the recipe drops them.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator
from dataclasses import dataclass, field
from typing import Any

from raybook.data.block import BlockReport, Bundle
from raybook.data.execution.map_operator import OrderedOutput
from raybook.data.execution.operator import Operator, RunningTask
from raybook.data.execution.programs import Program
from raybook.data.execution.task_launcher import Launcher


@dataclass
class Made:
    """A block that a call has made, and the extra that its program gave with it."""

    bundle: Bundle
    extra: Any = None


@dataclass
class Call:
    """One task: a program over bundles. pass_on: no task at all, the one bundle goes on as it is."""

    program: Program | None
    bundles: list[Bundle]
    options: dict[str, Any] = field(default_factory=dict)


@dataclass
class Stage:
    """Calls that may run at the same time. is_last: what they make is the operator's output."""

    calls: list[Call]
    is_last: bool = False
    number_from: int = 0


Recipe = Callable[[list[list[Bundle]]], Generator[Stage, list[list[Made]], None]]


class ExchangeOperator(Operator):
    is_barrier = True

    def __init__(
        self, name: str, inputs: list[Operator], recipe: Recipe, launcher: Launcher, options: dict[str, Any]
    ) -> None:
        super().__init__(name, inputs)
        self._recipe, self._launcher, self._options = recipe, launcher, options
        self._collected: list[list[Bundle]] = [[] for _ in inputs]
        self._steps: Generator[Stage, list[list[Made]], None] | None = None
        self._stage: Stage | None = None
        self._work: deque[tuple[int, Call]] = deque()
        self._made: list[list[Made]] = []
        self._ordered = OrderedOutput(True)
        self._is_finished = False
        self._shipments: dict[int, Any] = {}

    def add_input(self, port: int, bundle: Bundle) -> None:
        self._collected[port].append(bundle)

    def input_done(self, port: int) -> None:
        super().input_done(port)
        if self.inputs_done and not self.is_halted:
            collected, self._collected = self._collected, []
            self._steps = self._recipe(collected)
            self._next_stage(None)

    def _next_stage(self, results: list[list[Made]] | None) -> None:
        assert self._steps is not None
        while True:
            try:
                self._stage = next(self._steps) if results is None else self._steps.send(results)
            except StopIteration:
                self._is_finished = True
                self._stage = None
                return
            self._shipments.clear()
            self._made = [[] for _ in self._stage.calls]
            self._ordered = OrderedOutput(True)
            for index, call in enumerate(self._stage.calls):
                if call.program is None:
                    for bundle in call.bundles:
                        self._take(index, Made(bundle))
                    self._ordered.end(index, self.outputs)
                else:
                    self._work.append((index, call))
            if self._work:
                return
            results = self._made

    def _take(self, index: int, made: Made) -> None:
        assert self._stage is not None
        if self._stage.is_last:
            self._ordered.add(index, made.bundle, self.outputs)
        else:
            self._made[index].append(made)

    def tasks_ready(self) -> int:
        return len(self._work)

    def start_task(self) -> RunningTask:
        assert self._stage is not None
        index, call = self._work.popleft()
        program = call.program
        assert program is not None
        shipment = self._shipments.get(id(program))
        if shipment is None:
            shipment = self._shipments[id(program)] = self._launcher.ship(program, self.name)
        options = {**self._options, **call.options}
        number = self._stage.number_from + index
        stream = self._launcher.start(shipment, self.name, number, [b.ref for b in call.bundles], options)
        expected = sum(bundle.size_bytes for bundle in call.bundles)
        task = RunningTask(self, index, stream, expected if self._stage.is_last else 0, call)
        call.bundles = list(call.bundles)
        self.running.add(task)
        self.stats.tasks_started += 1
        return task

    def task_output(self, task: RunningTask, ref: Any, report: BlockReport) -> None:
        assert self._stage is not None
        if self._stage.is_last:
            self.stats.count(report)
            task.seen_bytes += report.metadata.size_bytes or 0
        if not self.is_halted:
            self._take(task.number, Made(Bundle(ref, report.metadata, report.schema), report.extra))

    def task_done(self, task: RunningTask) -> None:
        self.running.discard(task)
        self.stats.tasks_done += 1
        task.info.bundles = []
        self._ordered.end(task.number, self.outputs)
        if not self.running and not self._work and not self.is_halted:
            self._next_stage(self._made)

    def halt(self) -> None:
        super().halt()
        self._work.clear()
        self._collected = [[] for _ in self.inputs]
        self._made = []
        if self._steps is not None:
            self._steps.close()
        self._ordered.clear()

    @property
    def is_done(self) -> bool:
        return self.is_halted or (self._is_finished and not self.running)

    def held_bytes(self) -> int:
        return self._ordered.held_bytes

    def bytes_per_task(self) -> int:
        # Partitions must be made whatever they take: the store spills them. Only the output is a matter of budget.
        if self._stage is None or not self._stage.is_last or not self._work:
            return 0
        return sum(bundle.size_bytes for bundle in self._work[0][1].bundles)

    def cpus_and_gpus(self) -> tuple[float, float]:
        return float(self._options.get("num_cpus", 1) or 0), float(self._options.get("num_gpus", 0) or 0)
