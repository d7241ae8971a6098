"""Executor: runs a physical plan on the driver. Moves bundles between operators, starts the tasks that the scheduler
chooses, takes in what they make, and hands the last operator's bundles to the consumer.

It is a loop of steps. Whoever wants all of the result runs the steps itself (`run`); an iterator over batches has them
run in a thread (`StreamingThread`), so that tasks go on while the user works on a batch. Invariants: everything it
started has ended or been told to when it is closed; an error of a task reaches the consumer once, and ends the plan.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator
from typing import Any

from raybook.api import ObjectRef, cancel, get, wait
from raybook.data.block import BlockReport, Bundle
from raybook.data.context import DataContext
from raybook.data.core.scheduler import Limits, Scheduler
from raybook.data.execution.operator import Operator, RunningTask
from raybook.exceptions import RayError, RayTaskError

STALL_S = 0.001
"""A step in which nothing happened, and nothing runs: the consumer is about to take something. Do not spin."""
WAIT_S = 0.1
"""How long a step waits for tasks at most: then it looks whether the consumer has gone."""


class Executor:
    """operators: in topological order, the last one is what the consumer gets."""

    def __init__(self, operators: list[Operator], limits: Limits, context: DataContext) -> None:
        self.operators = operators
        self.scheduler = Scheduler(limits)
        self.outputs: deque[Bundle] = deque()
        self.consumer_bytes = 0
        """Bytes that have been handed out and are not given back: what a prefetching consumer holds."""
        self.errored = 0
        self.errors: list[BaseException] = []
        self.wall_s = 0.0
        self.is_done = False
        self._context = context
        self._consumers: dict[int, list[tuple[Operator, int]]] = {id(one): [] for one in operators}
        for one in operators:
            for port, before in enumerate(one.inputs):
                self._consumers[id(before)].append((one, port))
        self._told_done: set[int] = set()
        self._running: list[RunningTask] = []
        self._started = time.perf_counter()
        self._is_begun = self._is_closed = False

    # One step

    def begin(self) -> None:
        if not self._is_begun:
            self._is_begun = True
            for operator in self.operators:
                operator.begin()

    def step(self, timeout_s: float = WAIT_S) -> None:
        """Take in what tasks have made, move it along, start what may start; wait a little if nothing happened."""
        self.begin()
        self._route()
        self._launch()
        if self._running:
            self._poll(0.0 if self.outputs else timeout_s)
            self._route()
            self._launch()
        self._check_done()
        if not (self._running or self.outputs or self.is_done):
            time.sleep(STALL_S)

    def _poll(self, timeout_s: float) -> None:
        streams = [task.stream for task in self._running]
        ready, _ = wait(streams, num_returns=len(streams), timeout=0, fetch_local=False)
        if not ready and timeout_s:
            ready, _ = wait(streams, num_returns=1, timeout=timeout_s, fetch_local=False)
        if not ready:
            return
        found = {id(stream) for stream in ready}
        for task in [task for task in self._running if id(task.stream) in found]:
            self._drain(task)

    def _drain(self, task: RunningTask) -> None:
        """All pairs of a task that are there, and its end."""
        stream = task.stream
        while True:
            block_ref = next(stream, None)
            if block_ref is None:
                self._end(task)
                return
            report_ref = next(stream, None)
            if report_ref is None:
                # A stream that ends on an odd item ends on an error.
                self._fail(task, block_ref)
                return
            try:
                report: BlockReport = get(report_ref)
            except RayError as error:
                self._fail_with(task, error)
                return
            task.operator.task_output(task, block_ref, report)
            if not stream.next_ready():
                return

    def _end(self, task: RunningTask) -> None:
        self._running.remove(task)
        task.operator.task_done(task)

    def _fail(self, task: RunningTask, ref: ObjectRef) -> None:
        try:
            get(ref)
        except RayError as error:
            self._fail_with(task, error)
            return
        raise AssertionError(f"a task of {task.operator.name} ended between a block and its report")

    def _fail_with(self, task: RunningTask, error: BaseException) -> None:
        self._running.remove(task)
        task.operator.stats.tasks_failed += 1
        if task.operator.is_halted:
            task.operator.running.discard(task)
            return
        allowed = self._context.max_errored_blocks
        # Only what users' functions raise is left out; lost workers and a full store are no matter of a block.
        if isinstance(error, RayTaskError) and (allowed < 0 or self.errored < allowed):
            self.errored += 1
            self.errors.append(error)
            task.operator.task_failed(task, error)
            return
        task.operator.running.discard(task)
        raise error

    def _route(self) -> None:
        """Move what operators have put out to whoever takes it, sources first, so that it goes all the way."""
        last = self.operators[-1]
        for operator in self.operators:
            targets = self._consumers[id(operator)]
            while operator.outputs:
                bundle = operator.outputs.popleft()
                if operator is last:
                    self.outputs.append(bundle)
                for target, port in targets:
                    if not target.is_halted:
                        target.add_input(port, bundle)
            if operator.is_done and not operator.outputs and id(operator) not in self._told_done:
                self._told_done.add(id(operator))
                for target, port in targets:
                    if not target.is_halted:
                        target.input_done(port)
        for operator in reversed(self.operators):
            if operator.wants_no_more():
                self._stop_before(operator)

    def _stop_before(self, operator: Operator) -> None:
        for before in operator.inputs:
            if before.is_halted or id(before) in self._told_done:
                continue
            if all(target.wants_no_more() for target, _ in self._consumers[id(before)]):
                self._halt(before)

    def _halt(self, operator: Operator) -> None:
        operator.halt()
        for task in [task for task in self._running if task.operator is operator]:
            # Dropping a stream ends its task at its next block; cancelling would cost a worker that is nearly done.
            self._running.remove(task)
            operator.running.discard(task)
        if id(operator) not in self._told_done:
            self._told_done.add(id(operator))
            for target, port in self._consumers[id(operator)]:
                if not target.is_halted:
                    target.input_done(port)
        self._stop_before(operator)

    def _launch(self) -> None:
        while True:
            views = [
                operator.view(index, [target for target, _ in self._consumers[id(operator)]])
                for index, operator in enumerate(self.operators)
            ]
            views[-1].queued_bytes += self.consumer_bytes + sum(bundle.size_bytes for bundle in self.outputs)
            chosen = self.scheduler.choose(views, bool(self.outputs or self.consumer_bytes))
            if chosen is None:
                return
            self._running.append(self.operators[chosen].start_task())

    def _check_done(self) -> None:
        if not self._running and all(id(one) in self._told_done for one in self.operators):
            self.is_done = True
            self.wall_s = time.perf_counter() - self._started

    @property
    def waits_for_consumer(self) -> bool:
        """Nothing runs and nothing may start until the consumer takes something."""
        return not self._running and not self.is_done

    # Whole runs

    def run(self) -> Iterator[Bundle]:
        """The result's bundles, in order, while the plan runs in the caller's thread."""
        try:
            while True:
                while self.outputs:
                    yield self.outputs.popleft()
                if self.is_done:
                    return
                self.step()
        finally:
            self.close()

    def close(self) -> None:
        """End what still runs and give everything back. Idempotent."""
        if self._is_closed:
            return
        self._is_closed = True
        if not self.wall_s:
            self.wall_s = time.perf_counter() - self._started
        for task in self._running:
            cancel(task.stream)
        self._running.clear()
        for operator in self.operators:
            operator.end()
            if not operator.is_done:
                operator.halt()

    def snapshot(self) -> list[dict[str, Any]]:
        """Each operator as a plain record, for panels."""
        return [
            {
                "name": operator.name,
                "running": len(operator.running),
                "waiting": operator.tasks_ready(),
                "queued_bytes": sum(b.size_bytes for b in operator.outputs) + operator.held_bytes(),
                "rows": operator.stats.rows,
                "bytes": operator.stats.bytes,
                "tasks_done": operator.stats.tasks_done,
                "is_done": operator.is_done,
                "reason": self.scheduler.reasons.get(index, ""),
            }
            for index, operator in enumerate(self.operators)
        ]
