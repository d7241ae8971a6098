"""The autoscaler's loop: asks the GCS and the provider what there is, hands it to the machine, does what that says.

A shell: it decides when to look, and nothing else. While something waits or is on its way it looks often, else seldom. The
GCS may be away for a while, and the provider may raise or hang: both are said, and the loop goes on.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine
from typing import Any

import msgspec

from raybook.autoscaler.provider_calls import TIMEOUT_S, ProviderCalls, ProviderTrouble
from raybook.autoscaler.providers import NodeProvider
from raybook.base.drains import IDLE_TERMINATION
from raybook.base.facts import Fact
from raybook.base.ids import random_id
from raybook.core.autoscaler import events as ev
from raybook.core.autoscaler.machine import Autoscaler
from raybook.core.autoscaler.settings import Settings
from raybook.io.channel import Channel, RemoteError
from raybook.io.clock import Clock
from raybook.protocol.messages import gcs as messages
from raybook.protocol.messages.output import WorkerLine
from raybook.protocol.messages.scaling import (
    AutoscalerStatus,
    ClusterLoad,
    GetClusterLoad,
    ReportAutoscaler,
)

logger = logging.getLogger(__name__)

LOOK_S = 0.5
"""While nothing waits and nothing is on its way. Ray looks once in five seconds."""
LOOK_SOON_S = 0.1
"""Else. An answer costs the GCS 0.1 ms with ten nodes."""
SAY_S = 10.0
"""What has not changed is said again after this long, so that it can be told from the words of one that is gone."""
SAY_SOON_S = 1.0
"""Figures that only grow older are said this often."""
CLOSE_TIMEOUT_S = 8.0
NAME = "autoscaler"
OF_NO_PROCESS = -1
"""Stands for the process id of a line that the cluster itself says."""


class AutoscalerLoop:
    """gcs: stays the caller's. provider: becomes this object's, and is closed with it."""

    def __init__(
        self,
        gcs: Channel,
        provider: NodeProvider,
        settings: Settings,
        clock: Clock,
        provider_timeout_s: float = TIMEOUT_S,
    ) -> None:
        self.machine = Autoscaler(settings, f"{random_id().hex()[:6]}-")
        self._gcs = gcs
        self._provider = provider
        self._calls = ProviderCalls(provider_timeout_s)
        self._clock = clock
        self._wake = asyncio.Event()
        self._tasks: set[asyncio.Task[Any]] = set()
        self._runner: asyncio.Task[None] | None = None
        self._said: AutoscalerStatus | None = None
        self._events_told = 0

    def start(self) -> None:
        """Look from now on."""
        self._runner = asyncio.get_running_loop().create_task(self._run())

    async def close(self) -> None:
        """Look no more, and close the provider: waits for it, but not for ever. Idempotent."""
        runner, self._runner = self._runner, None
        if runner is None:
            return
        for task in (runner, *self._tasks):
            task.cancel()
        await asyncio.wait([runner, *self._tasks])
        try:
            await asyncio.wait_for(self._calls.call(self._provider.close), CLOSE_TIMEOUT_S)
        except (ProviderTrouble, TimeoutError, asyncio.TimeoutError) as error:
            logger.warning("The provider did not close well: %s", error)

    def change(self, settings: Settings) -> None:
        """Other bounds from now on."""
        self._decide([ev.SettingsChanged(settings)])
        self._wake.set()

    async def _run(self) -> None:
        while True:
            try:
                await self._look()
            except ConnectionError as error:
                logger.warning("The GCS cannot be reached: %s", error)
            except RemoteError as error:
                logger.warning("The GCS refused: %s", error)
            except Exception:
                # A bug of ours must not leave a cluster without an autoscaler.
                logger.exception("A look failed.")
            await self._pause()

    async def _pause(self) -> None:
        self._wake.clear()
        seconds = LOOK_SOON_S if self.machine.is_eager else LOOK_S
        deadline_ms = self.machine.next_deadline_ms()
        if deadline_ms is not None:
            seconds = min(seconds, max(0.0, deadline_ms - self._clock()) / 1000 + 0.001)
        try:
            await asyncio.wait_for(self._wake.wait(), seconds)
            await asyncio.sleep(LOOK_SOON_S / 10)
        except (TimeoutError, asyncio.TimeoutError):
            pass

    async def _look(self) -> None:
        events = await self._ask_provider()
        load: ClusterLoad = await self._gcs.call("GetClusterLoad", GetClusterLoad())
        self._decide([*events, ev.ClusterSeen(load)])
        await self._say()

    async def _ask_provider(self) -> list[Any]:
        try:
            instances = await self._calls.call(self._provider.non_terminated_nodes)
            failures = await self._calls.call(self._provider.take_failures)
        except ProviderTrouble as error:
            return [ev.ProviderFailed(str(error))]
        lost = [ev.LaunchFailed(each.node_type, each.count, each.error, each.request) for each in failures]
        return [*lost, ev.InstancesSeen(tuple(instances))]

    # Acting

    def _decide(self, events: list[Any]) -> None:
        for effect in self.machine.handle(events, self._clock()):
            if isinstance(effect, ev.Tell):
                self._tell(effect)
            elif isinstance(effect, ev.CreateNodes):
                self._spawn(self._create(effect))
            elif isinstance(effect, ev.TerminateNode):
                self._spawn(self._terminate(effect))
            else:
                self._spawn(self._retire(effect))

    async def _create(self, effect: ev.CreateNodes) -> None:
        error = ""
        try:
            await self._calls.call(self._provider.create_nodes, effect.node_type, effect.count, effect.request)
        except ProviderTrouble as trouble:
            error = str(trouble)
        self._answered(ev.CreateAnswered(effect.request, error))

    async def _terminate(self, effect: ev.TerminateNode) -> None:
        error = ""
        try:
            await self._calls.call(self._provider.terminate_nodes, [effect.instance_id])
        except ProviderTrouble as trouble:
            error = str(trouble)
        self._answered(ev.TerminateAnswered(effect.instance_id, error))

    async def _retire(self, effect: ev.RetireIfIdle) -> None:
        try:
            request = messages.DrainNode(effect.node_id, IDLE_TERMINATION, effect.why)
            reply = await self._gcs.call("DrainNode", request)
            accepted, reason = reply.accepted, reply.rejection
        except (RemoteError, ConnectionError) as error:
            accepted, reason = False, str(error)
        self._answered(ev.RetireAnswered(effect.instance_id, effect.attempt, accepted, reason))

    def _answered(self, event: Any) -> None:
        self._decide([event])
        self._wake.set()

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            logger.error("A step of the autoscaler failed.", exc_info=task.exception())

    # Saying

    async def _say(self) -> None:
        status = self.machine.status()
        said = self._said
        if said is not None:
            old_ms = status.updated_ms - said.updated_ms
            is_news = _news_of(status) != _news_of(said)
            if not is_news and old_ms < (SAY_SOON_S if self.machine.is_eager else SAY_S) * 1000:
                return
        await self._gcs.call("ReportAutoscaler", ReportAutoscaler(status))
        self._said = status

    def _tell(self, effect: ev.Tell) -> None:
        logger.log(logging.WARNING if effect.severity == ev.WARNING else logging.INFO, "%s", effect.text)
        self._spawn(self._publish(effect))

    async def _publish(self, effect: ev.Tell) -> None:
        """An event for whoever looks, and a line for every driver."""
        self._events_told += 1
        key = f"{self.machine.name}{self._events_told:08d}"
        row = {
            "event_id": key,
            "severity": effect.severity,
            "source_type": "AUTOSCALER",
            "message": effect.text,
            "time_ms": self._clock(),
            "node_id": "",
            "custom_fields": {},
        }
        try:
            await self._gcs.call("AddFacts", messages.AddFacts([Fact("cluster_event", key, row)]))
            jobs = (await self._gcs.call("ListJobs", messages.ListJobs())).jobs
            lines = [
                WorkerLine(OF_NO_PROCESS, "err", NAME, effect.text, job.job_id.hex())
                for job in jobs
                if not job.ended_ms
            ]
            if lines:
                await self._gcs.call("PublishLines", messages.PublishLines(lines))
        except (RemoteError, ConnectionError) as error:
            logger.warning("Nobody could be told: %s", error)


def _news_of(status: AutoscalerStatus) -> AutoscalerStatus:
    """Without what only grows older."""
    return msgspec.structs.replace(status, updated_ms=0, pending=[], notes=[])
