"""Inventory: what the GCS can say of jobs and worker processes, and where a job's output goes. Answers, and changes nothing.

Processes are the raylets' affair: they are asked, each for a second at most, and one that does not answer is left out.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from raybook.core.cluster.job_table import JobTable
from raybook.core.cluster.node_table import NodeTable
from raybook.gcs.effects import EffectRunner
from raybook.protocol.messages import gcs as messages
from raybook.protocol.messages.node import DeliverLines, NodeStats

STATS_TIMEOUT_S = 1.0


class Inventory:
    """ask(node, timeout in seconds): a raylet's own account, None when there is none."""

    def __init__(
        self,
        jobs: JobTable,
        nodes: NodeTable,
        runner: EffectRunner,
        ask: Callable[[bytes, float], Awaitable[NodeStats | None]],
    ) -> None:
        self._jobs = jobs
        self._nodes = nodes
        self._runner = runner
        self._ask = ask
        self.methods: dict[str, Callable[[Any], Awaitable[Any]]] = {
            "ListJobs": self._list_jobs,
            "ListWorkers": self._list_workers,
            "PublishLines": self._publish_lines,
        }

    async def _list_jobs(self, request: messages.ListJobs) -> messages.JobList:
        return messages.JobList(self._jobs.rows())

    async def _list_workers(self, request: messages.ListWorkers) -> messages.WorkerList:
        alive = self._nodes.alive_ids()
        accounts = await asyncio.gather(*(self._ask(node_id, STATS_TIMEOUT_S) for node_id in alive))
        rows = []
        for node_id, account in zip(alive, accounts, strict=True):
            for each in account.workers if account is not None else ():
                rows.append(
                    messages.WorkerRow(node_id, each.worker_id, each.pid, each.state, each.assigned, each.actor_id)
                )
        return messages.WorkerList(rows)

    async def _publish_lines(self, request: messages.PublishLines) -> messages.Empty:
        for node_id, lines in self._jobs.lines_by_node(request.lines).items():
            self._runner.send(node_id, "DeliverLines", DeliverLines(lines))
        return messages.Empty()
