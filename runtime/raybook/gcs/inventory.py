"""Inventory: what the GCS can say of jobs, processes and single tasks, and where a job's output goes. Changes nothing
itself; an order goes on to the processes.

Processes are the raylets' affair, and single tasks and objects their owners': they are asked, each for a second or two at
most, and who does not answer is left out, or named.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from raybook.core.cluster.job_table import JobTable
from raybook.core.cluster.node_table import NodeTable
from raybook.gcs.effects import EffectRunner
from raybook.io.channel import RemoteError
from raybook.protocol.messages import gcs as messages
from raybook.protocol.messages.node import DeliverLines, GetNodeStats, NodeStats
from raybook.protocol.messages.survey import KINDS, Survey, SurveyNode, SurveyReply

STATS_TIMEOUT_S = 1.0
SURVEY_TIMEOUT_S = 3.0
"""A raylet waits a second for its processes."""


class Inventory:
    """ask(node, request, timeout in seconds): a raylet's answer, None when there is none."""

    def __init__(
        self,
        jobs: JobTable,
        nodes: NodeTable,
        runner: EffectRunner,
        ask: Callable[[bytes, Any, float], Awaitable[Any]],
    ) -> None:
        self._jobs = jobs
        self._nodes = nodes
        self._runner = runner
        self._ask = ask
        self.methods: dict[str, Callable[[Any], Awaitable[Any]]] = {
            "ListJobs": self._list_jobs,
            "ListWorkers": self._list_workers,
            "Survey": self._survey,
            "PublishLines": self._publish_lines,
        }

    async def _list_jobs(self, request: messages.ListJobs) -> messages.JobList:
        return messages.JobList(self._jobs.rows())

    async def node_statistics(self) -> dict[bytes, NodeStats]:
        """What every living node that answers says of itself."""
        alive = self._nodes.alive_ids()
        accounts = await asyncio.gather(*(self._ask(node_id, GetNodeStats(), STATS_TIMEOUT_S) for node_id in alive))
        return {node: account for node, account in zip(alive, accounts, strict=True) if account is not None}

    async def _list_workers(self, request: messages.ListWorkers) -> messages.WorkerList:
        rows = []
        for node_id, account in (await self.node_statistics()).items():
            for each in account.workers:
                rows.append(
                    messages.WorkerRow(node_id, each.worker_id, each.pid, each.state, each.assigned, each.actor_id)
                )
        return messages.WorkerList(rows)

    async def _survey(self, request: Survey) -> SurveyReply:
        if request.kind not in KINDS:
            raise RemoteError(
                "ValueError", f"There is no survey of {request.kind!r}; there is one of {', '.join(KINDS)}."
            )
        question = SurveyNode(request.kind, request.limit, request.order)
        nodes = self._nodes.alive_ids()
        answers = await asyncio.gather(*(self._ask(node_id, question, SURVEY_TIMEOUT_S) for node_id in nodes))
        told = [answer for answer in answers if answer is not None]
        return SurveyReply(
            [account for answer in told for account in answer.accounts],
            [pid for answer in told for pid in answer.silent],
        )

    async def _publish_lines(self, request: messages.PublishLines) -> messages.Empty:
        for node_id, lines in self._jobs.lines_by_node(request.lines).items():
            self._runner.send(node_id, "DeliverLines", DeliverLines(lines))
        return messages.Empty()
