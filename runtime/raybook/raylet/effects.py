"""Effects: runs the node's two deciders, the lease manager and the worker pool, and carries out what they ask for.

Each decider hears of the other's decisions as events. Nothing is decided here: an effect becomes a message, a fork, a
kill or a report.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any

from raybook.base.config import Config
from raybook.base.facts import ACTOR_DEAD
from raybook.base.ids import random_id
from raybook.base.resources import CPU, UNIT
from raybook.core.node import lease_events as le
from raybook.core.node import worker_pool as wp
from raybook.core.node.lease_manager import LeaseManager
from raybook.core.node.local_resources import LocalResources
from raybook.core.node.translation import LEASE_MESSAGES, lease_granted
from raybook.protocol.messages.gcs import ActorStateReport
from raybook.protocol.messages.raylet import ExitWorker
from raybook.protocol.messages.zygote import WorkerOptions
from raybook.raylet.clients import ClientTable, WorkerProcess
from raybook.raylet.environments import Environments
from raybook.raylet.zygote_link import ZygoteLink

logger = logging.getLogger(__name__)

LIGHT_LEASES_MIN = 16
"""Tasks that ask for nothing (num_cpus=0) run this many at once, or four for each CPU."""
SETUP_ERROR = "RuntimeEnvSetupError"
PARALLEL_STARTS_MAX = 8
"""A fork takes a millisecond, but registering takes some of CPU time: more at once only wait for each other."""

PRELOADING_FACTOR = 10
"""Workers may take so much longer to come when their zygote imports more first (``Config.worker_preload``)."""


class NodeDecider:
    """The deciders of one node with their timers. ``report_actor``, ``resources_changed`` and ``follow_group`` (find out
    what becomes of a placement group) go on to the GCS. labels: of this node. say: what people should see of a runtime
    environment that is being made."""

    def __init__(
        self,
        config: Config,
        resources: LocalResources,
        clients: ClientTable,
        worker_options: Callable[[bytes, str], WorkerOptions],
        report_actor: Callable[[ActorStateReport], None],
        resources_changed: Callable[[], None],
        follow_group: Callable[[bytes], None],
        labels: Mapping[str, str],
        environments: Callable[[Callable[[str, int], None], Callable[[str, str], None]], Environments],
    ) -> None:
        cpus = resources.total.get(CPU, 0) // UNIT
        processors = len(os.sched_getaffinity(0))
        self.leases = LeaseManager(resources, light_leases_max=max(LIGHT_LEASES_MIN, 4 * cpus), labels=labels)
        self.pool = wp.WorkerPool(
            kept=cpus,
            # A node may claim more CPUs than it has; starting ahead beyond twice the real ones would only delay.
            prestart=min(cpus, 2 * processors),
            parallel_starts_max=PARALLEL_STARTS_MAX,
            worker_idle_ms=config.worker_idle_ms,
            start_timeout_ms=config.worker_start_timeout_ms * (PRELOADING_FACTOR if config.worker_preload else 1),
        )
        self.environments = environments(self._environment_ready, self._environment_failed)
        self.zygote: ZygoteLink | None = None
        self.abroad: Callable[[bytes, Any], None] = lambda client_id, message: None
        """Sends to a client of another node."""
        self.granted: Callable[[bytes, int], None] = lambda client_id, class_key: None
        """Told of each lease that a client of this node is given here."""
        self._clients = clients
        self._worker_options = worker_options
        self._report_actor = report_actor
        self._resources_changed = resources_changed
        self._follow_group = follow_group
        self._loop = asyncio.get_running_loop()
        self._queue: deque[tuple[Any, Any]] = deque()
        self._running = False
        self._closed = False
        self._timers: dict[int, asyncio.TimerHandle] = {}
        self._carry_out: dict[type, Callable[[Any], None]] = {
            **{kind: self._pass_on for kind in LEASE_MESSAGES},
            le.Grant: self._grant,
            le.FollowGroup: lambda effect: self._follow_group(effect.group_id),
            le.ActorGone: self._actor_gone,
            le.KillWorker: self._kill_worker,
            le.StartWorkers: self._start_workers,
            le.WorkerTaken: self._worker_taken,
            le.WorkerReleased: self._worker_released,
            le.ReportResources: self._report,
            wp.StartWorker: self._start_worker,
            wp.AbandonStart: self._abandon_start,
            wp.EndWorker: self._end_worker,
            wp.WorkerStayed: self._worker_stayed,
        }

    def lease(self, *events: Any) -> None:
        """Tell the lease manager."""
        self._tell(self.leases, events)

    def workers(self, *events: Any) -> None:
        """Tell the worker pool."""
        self._tell(self.pool, events)

    def close(self) -> None:
        """Decide nothing any more."""
        self._closed = True
        self.environments.close()
        self.pool.close()
        for timer in self._timers.values():
            timer.cancel()
        self._timers.clear()

    def _tell(self, machine: Any, events: Any) -> None:
        """Events that arise while effects are carried out wait for their turn, so that effects stay in order."""
        if self._closed:
            return
        self._queue.append((machine, events))
        if self._running:
            return
        self._running = True
        try:
            touched: dict[int, Any] = {}
            while self._queue:
                machine, events = self._queue.popleft()
                touched[id(machine)] = machine
                for effect in machine.handle(events, int(self._loop.time() * 1000)):
                    self._carry_out[type(effect)](effect)
            for machine in touched.values():
                self._arm(machine)
        finally:
            self._running = False

    def _arm(self, machine: Any) -> None:
        timer = self._timers.pop(id(machine), None)
        if timer is not None:
            timer.cancel()
        deadline_ms = machine.next_deadline_ms()
        if deadline_ms is not None:
            self._timers[id(machine)] = self._loop.call_at((deadline_ms + 1) / 1000, self._tell, machine, ())

    # --- leases -------------------------------------------------------------------------------------------------------

    def send(self, client_id: bytes, message: Any) -> None:
        """To a client, if it is connected; who is not will be heard of as dead."""
        client = self._clients.get(client_id)
        if client is not None:
            client.connection.send(message)
        else:
            self.abroad(client_id, message)

    def _grant(self, effect: le.Grant) -> None:
        worker = self._clients.get(effect.worker)
        assert worker is not None, "A lease was granted on a worker that is not registered."
        self.send(effect.client, lease_granted(effect, worker.endpoint, worker.pid))
        self.granted(effect.client, effect.class_key)

    def _pass_on(self, effect: Any) -> None:
        self.send(*LEASE_MESSAGES[type(effect)](effect))

    def _report(self, effect: le.ReportResources) -> None:
        self._resources_changed()

    # --- actors -------------------------------------------------------------------------------------------------------

    def _actor_gone(self, effect: le.ActorGone) -> None:
        self._report_actor(
            ActorStateReport(
                effect.actor_id,
                effect.incarnation,
                "DEAD",
                reason=effect.reason,
                intended=effect.intended,
                code=effect.code,
            )
        )

    # --- workers ------------------------------------------------------------------------------------------------------

    def _start_workers(self, effect: le.StartWorkers) -> None:
        self.environments.want(effect.environment, effect.count)

    def _environment_ready(self, environment: str, count: int) -> None:
        self.workers(wp.WorkersLacking(environment, count))

    def _environment_failed(self, environment: str, text: str) -> None:
        """Whatever waits for it fails."""
        self.workers(wp.WorkersLacking(environment, 0))
        for request in self.leases.reports.waiting_in(environment):
            if request.actor is None:
                self.lease(le.DemandImpossible(request.client, request.class_key, SETUP_ERROR, text))
                continue
            actor_id, incarnation = request.actor.spec.actor_id, request.actor.incarnation
            report = ActorStateReport(
                actor_id, incarnation, ACTOR_DEAD, reason=text, creation_failed=True, code=SETUP_ERROR
            )
            self._report_actor(report)
            self.lease(le.ActorCancelled(actor_id, incarnation, reason=text))

    def _worker_taken(self, effect: le.WorkerTaken) -> None:
        self.workers(wp.WorkerBusy(effect.worker, effect.dedicated))

    def _worker_released(self, effect: le.WorkerReleased) -> None:
        self.workers(wp.WorkerIdle(effect.worker))

    def _start_worker(self, effect: wp.StartWorker) -> None:
        client_id = random_id()
        options = self._worker_options(client_id, effect.environment)
        self._clients.add_process(
            WorkerProcess(effect.start_id, client_id, effect.environment, options.worker_log_path)
        )
        assert self.zygote is not None
        self.zygote.fork(effect.start_id, options)

    def _abandon_start(self, effect: wp.AbandonStart) -> None:
        process = self._clients.process_of_start(effect.start_id)
        if process is not None:
            self.kill(process, f"it had not registered {effect.waited_ms} ms after it was started.")

    def _end_worker(self, effect: wp.EndWorker) -> None:
        self.lease(le.WorkerWithdrawn(effect.worker))

    def _worker_stayed(self, effect: wp.WorkerStayed) -> None:
        self.lease(le.WorkerReady(effect.worker))

    def _kill_worker(self, effect: le.KillWorker) -> None:
        process = self._clients.process(effect.worker)
        if process is None:
            return
        if effect.graceful and process.client is not None:
            process.client.connection.send(ExitWorker(effect.reason))
        else:
            self.kill(process, effect.reason)

    def kill(self, process: WorkerProcess, reason: str, memory_code: str | None = None) -> None:
        """End a worker's process now; the zygote reports its death. memory_code: it ends because memory is short, and its
        task fails with this exception class, or may be tried again ("")."""
        if not process.kill_reason:
            process.memory_code = memory_code
        process.kill_reason = process.kill_reason or reason
        logger.info("Killing worker %d: %s", process.pid, reason)
        if process.pid and self.zygote is not None:
            self.zygote.kill(process.pid, signal.SIGKILL)
