"""Limit: passes the first rows on, and lets everything before it stop. It cuts the block that is one too long."""

from __future__ import annotations

from raybook.data.block import BlockMetadata, BlockReport, Bundle
from raybook.data.execution.operator import Operator, RunningTask
from raybook.data.execution.programs import TakeSlices
from raybook.data.execution.task_launcher import Launcher


class LimitOperator(Operator):
    def __init__(self, name: str, limit: int, below: Operator, launcher: Launcher) -> None:
        super().__init__(name, [below])
        self._left = limit
        self._launcher = launcher
        self._to_cut: tuple[Bundle, int] | None = None
        self._has_schema = False

    def add_input(self, port: int, bundle: Bundle) -> None:
        if self._left <= 0:
            # A limit of no rows still tells its columns.
            if not self._has_schema and self._to_cut is None:
                self._to_cut = (bundle, 0)
            self._has_schema = True
            return
        self._has_schema = True
        if bundle.num_rows <= self._left:
            self._left -= bundle.num_rows
            self.outputs.append(bundle)
        else:
            self._to_cut = (bundle, self._left)
            self._left = 0

    def tasks_ready(self) -> int:
        return 1 if self._to_cut is not None else 0

    def start_task(self) -> RunningTask:
        assert self._to_cut is not None
        bundle, rows = self._to_cut
        self._to_cut = None
        stream = self._launcher.start(TakeSlices([(0, rows)]), self.name, 0, [bundle.ref])
        task = RunningTask(self, 0, stream, bundle.size_bytes)
        self.running.add(task)
        return task

    def task_output(self, task: RunningTask, ref: object, report: BlockReport) -> None:
        self.stats.count(report)
        metadata: BlockMetadata = report.metadata
        self.outputs.append(Bundle(ref, metadata, report.schema))

    def task_done(self, task: RunningTask) -> None:
        self.running.discard(task)

    def wants_no_more(self) -> bool:
        return self.is_halted or (self._left <= 0 and self._has_schema)
