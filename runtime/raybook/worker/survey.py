"""Survey: answers what the cluster asks this process about its tasks and objects. On the I/O thread, between batches."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from raybook.core.owner import memory_report, task_report
from raybook.protocol.messages.survey import FUNCTIONS, OBJECTS, ORDERS, TASKS, SurveyAnswer, SurveyQuery
from raybook.worker.core_process import CoreProcess
from raybook.worker.orders import OrderDesk


class Surveyor:
    """Registers itself with the core process. job_id: of the work that this process does now, b"" for none. ``orders``: who
    does what is asked to be done."""

    def __init__(self, core: CoreProcess, job_id: Callable[[], bytes]) -> None:
        self._core = core
        self.orders = OrderDesk(core)
        self._job_id = job_id
        core.raylet_handlers[SurveyQuery] = self._asked

    def _asked(self, query: SurveyQuery) -> None:
        # Not before the next batch, so that what user threads did before the question is in the tables.
        self._core.submit_call(lambda: self._core.submit_call(lambda: self._answer(query)))

    def _answer(self, query: SurveyQuery) -> None:
        if query.kind == ORDERS:
            found, left_out = self.orders.take(query.order), 0
        else:
            found, left_out = self._rows(query.kind, query.limit)
        answer = SurveyAnswer(query.survey_id, msgspec.msgpack.encode(found), self._running(), left_out)
        self._core.to_raylet(answer)

    def _running(self) -> list[bytes]:
        """Tasks and calls whose code runs here now."""
        executor = self._core.executor
        if executor is None:
            return []
        # Read once: the main thread sets it while we look.
        current = executor.current
        if executor.actor is not None:
            return executor.actor.running()
        return [current.task_id] if current is not None else []

    def _rows(self, kind: str, limit: int) -> tuple[list[dict[str, Any]], int]:
        core = self._core
        job_id = self._job_id().hex()
        if kind == TASKS:
            found, left_out = task_report.rows(core.owner, core.owner.ended, limit)
        elif kind == OBJECTS:
            every = memory_report.rows(core.owner)
            found, left_out = every[:limit], max(0, len(every) - limit)
        elif kind == FUNCTIONS:
            found, left_out = [*core.facts.function_rows(), core.facts.latency_row()], 0
        else:
            return [], 0
        for row in found:
            row["job_id"] = job_id
        return found, left_out
