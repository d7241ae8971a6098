"""The raylet: serves the drivers and workers of one node, and the GCS's requests about it.

A shell: messages become events of the deciders (``raylet/effects``) or of the store (``raylet/store_service``), or go
on to the GCS (``raylet/gcs_link``). What it knows of processes for certain comes from the zygote's ``waitpid`` for
workers and from a pidfd for drivers, never from a socket's end.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from raybook.base.config import Config
from raybook.base.facts import Fact
from raybook.base.ids import random_id
from raybook.base.label_selector import NODE_ID_LABEL
from raybook.base.specs import Endpoint
from raybook.base.strategies import node_target
from raybook.base.versions import OWN, Versions, why_apart
from raybook.core.cluster.actor_record import ALL_HANDLES_GONE
from raybook.core.node import lease_events as le
from raybook.core.node import worker_pool as wp
from raybook.core.node.local_resources import LocalResources
from raybook.core.node.translation import LEASE_EVENTS, STORE_EVENTS
from raybook.io.channel import Channel, RemoteError
from raybook.io.loop_transport import Connection, FrameServer
from raybook.io.process import is_alive
from raybook.io.transport import Security
from raybook.protocol.messages import gcs as gcs_messages
from raybook.protocol.messages import raylet as rm
from raybook.protocol.messages.node import NodeStats, WorkerInfo
from raybook.protocol.messages.output import FlushOutput
from raybook.protocol.messages.survey import SurveyAnswer
from raybook.raylet.abroad import Abroad
from raybook.raylet.clients import DRIVER, WORKER, Client, ClientTable, WorkerProcess
from raybook.raylet.drain_service import DrainService
from raybook.raylet.effects import NodeDecider
from raybook.raylet.environments import ENVIRONMENTS, Environments
from raybook.raylet.followers import Followers
from raybook.raylet.gcs_link import GcsLink
from raybook.raylet.idle_probe import IdleProbe
from raybook.raylet.memory_guard import MemoryGuard
from raybook.raylet.node_report import report_of
from raybook.raylet.node_service import NodeService
from raybook.raylet.notices import ERROR, NoticeBoard
from raybook.raylet.offer import gpu_ids
from raybook.raylet.output_service import OutputService
from raybook.raylet.store_service import SPILL_MESSAGES, StoreService
from raybook.raylet.surveys import Surveys
from raybook.raylet.worker_keeper import LOGS, Hooks, WorkerKeeper, Workplace
from raybook.raylet.zygote_client import ZygoteHandle

logger = logging.getLogger(__name__)

SOCKET_NAME = "raylet.sock"
DEAF_WORKER_S = 2.0
"""A worker that closed its socket and still lives after this cannot be led any more and is killed."""
LAST_MESSAGES_MAX = 64
"""Reads of a dead client's socket: one returns 256 KiB, and more than a few are never waiting."""


class Raylet:
    """One node. ``on_driver_gone(client_id)``, ``on_stop(reason)`` and ``on_gcs_moved(address)`` are for whoever composes
    it."""

    def __init__(
        self,
        node_id: bytes,
        config: Config,
        session_dir: str,
        token: bytes,
        gcs: Channel,
        resources: dict[str, int],
        store_budget_bytes: int,
        zygote: ZygoteHandle,
        labels: dict[str, str],
        *,
        is_head: bool = True,
        ip: str = "127.0.0.1",
        raylet_address: str = "",
        gcs_address: str = "",
        worker_environment: dict[str, str] | None = None,
        gateway_host: str = "",
        security: Security | None = None,
    ) -> None:
        """gcs: a channel that stays the caller's. resources: fixed-point totals. zygote: becomes this object's, ended
        by ``stop``. raylet_address: of its gRPC service, "" when embedded. worker_environment: set in every worker.
        gateway_host: where to listen for other nodes, "" if there are none; security: TLS between nodes."""
        self.node_id = node_id
        self.gcs_address = gcs_address
        self.service = NodeService(self)
        self.on_driver_gone: Callable[[bytes], None] = lambda client_id: None
        self.on_stop: Callable[[str], None] = lambda reason: None
        self.on_gcs_moved: Callable[[str], None] = lambda address: None
        self._config = config
        self._session_dir = session_dir
        self._token = token
        self._channel = gcs
        self._resources = resources
        self._store_budget_bytes = store_budget_bytes
        self._handle = zygote
        self._labels = {NODE_ID_LABEL: node_id.hex(), **labels}
        self._is_head = is_head
        self._ip = ip
        self.raylet_address = raylet_address
        self._worker_environment = worker_environment or {}
        self._gateway_host = gateway_host
        self._security = security
        self._abroad: Abroad | None = None
        self.cluster_id = b""
        self._socket = f"unix:{session_dir}/{SOCKET_NAME}"
        self._clients = ClientTable()
        self.surveys = Surveys(node_id, self._clients)
        self._observed = False
        self._look: asyncio.TimerHandle | None = None
        self._server: FrameServer | None = None
        self.is_stopping = False

    # --- life ---------------------------------------------------------------------------------------------------------

    async def start(self) -> str:
        """Serve; the address for drivers of this node. Workers start in the background. RemoteError when the GCS
        refuses the node, ConnectionError when it cannot be reached."""
        self._loop = asyncio.get_running_loop()
        self._has_worker = asyncio.Event()
        Path(self._session_dir, LOGS).mkdir(mode=0o700, exist_ok=True)
        resources = LocalResources(self._resources, gpu_ids(self._resources))
        place = Workplace(self._socket, self._token, self._session_dir, self._worker_environment)
        self.notices = NoticeBoard(self.node_id.hex(), lambda facts: self.gcs.publish(facts))
        hooks = Hooks(self._read_last_messages, self._forget, self._client_gone, self._output_ended, self._worker_died)
        self._keeper = WorkerKeeper(self._config, place, self._handle, self._clients, hooks)
        self.decider = NodeDecider(
            self._config,
            resources,
            self._clients,
            self._keeper.options,
            lambda report: self.gcs.tell("ActorStateReport", report),
            self._resources_changed,
            lambda group_id: self._followers.group(group_id),
            self._labels,
            lambda ready, failed: Environments(
                ready,
                failed,
                lambda line: self.output.announce("runtime_env", line),
                lambda method, request: self.gcs.call(method, request),
                Path(self._session_dir, ENVIRONMENTS, self.node_id.hex()[:12]),
                self.notices,
            ),
        )
        self._store = StoreService(
            self._config,
            self._store_budget_bytes,
            self._session_dir,
            self.node_id,
            self.decider.send,
            self._misbehaved,
        )
        if self._gateway_host:
            self._abroad = Abroad(
                self.node_id, self._token, self._config, self._gateway_host, self._clients, self.decider, self._store,
                self._security,
            )  # fmt: skip
        self._probe = IdleProbe(self.decider)
        self.gcs = GcsLink(
            self._config,
            self._channel,
            self._node_info(),
            self._clients,
            self._report,
            self._probe.ask,
            lambda reason: self.on_stop(reason),
        )
        self._followers = Followers(self.node_id, self.decider, self.gcs, self._abroad)
        self.gcs.on_registered_again = self._followers.look_at_bundles
        parts = self.decider, self._clients, self._store, self.gcs
        self.drain = DrainService(self.node_id, *parts, self.gcs.begin_draining, lambda reason: self.on_stop(reason))
        self._guard = MemoryGuard(
            self._config, self.decider, self._clients, self._store, lambda text: self.output.announce("memory", text)
        )
        logs = Path(self._session_dir, LOGS)
        actor_of, kept_bytes = self.decider.leases.actor_of, self._config.worker_log_bytes_max
        self.output = OutputService(logs, self.node_id, self._ip, self._clients, self.gcs, actor_of, kept_bytes)
        self._handlers = self._message_handlers()
        # Forks are ordered before anything else: the zygote works while we talk to the GCS.
        self._keeper.attach(self.decider, self.gcs)
        self._server = FrameServer(
            self._socket, self._token, rm.RayletMessage, self._on_message, self._on_connection_closed
        )
        self.cluster_id = await self.gcs.join()
        if self._abroad is not None:
            self._abroad.start(self.gcs)
        self._guard.start()
        return self._socket

    async def wait_for_worker(self, timeout_s: float) -> None:
        """Until one worker is ready, so that a driver's first task finds it; not for ever (a node may have no CPU)."""
        with suppress(asyncio.TimeoutError):
            await asyncio.wait_for(self._has_worker.wait(), timeout_s)

    async def stop(self, reason: str) -> None:
        """End every worker, let clients go, leave nothing. Idempotent."""
        if self.is_stopping:
            return
        self.is_stopping = True
        logger.info("The raylet stops: %s", reason)
        if self._server is None:
            # It never served: there is nothing but the zygote to end.
            await asyncio.get_running_loop().run_in_executor(None, self._handle.close)
            return
        if self._look is not None:
            self._look.cancel()
        if not self._is_head:
            # Known at once; a node that is silent is dead only after a health check.
            self.gcs.tell("UnregisterNode", gcs_messages.UnregisterNode(self.node_id))
        self._guard.close()
        self.drain.close()
        self.decider.close()
        self._probe.close()
        self.output.close()
        self._keeper.end()
        self._server.close()
        for client in self._clients:
            self._forget(client)
        if self._abroad is not None:
            self._abroad.close()
        await self.gcs.close()
        await self._loop.run_in_executor(None, self._keeper.wait)
        self._store.close()

    def _node_info(self) -> gcs_messages.NodeInfo:
        return gcs_messages.NodeInfo(
            self.node_id,
            self.raylet_address,
            self._socket,
            socket.gethostname(),
            self._ip,
            os.getpid(),
            dict(self._resources),
            dict(self._resources),
            self._labels,
            self._is_head,
            gateway_address=self._abroad.address if self._abroad is not None else "",
        )

    def _report(self) -> gcs_messages.ReportNode:
        drivers = sum(client.kind == DRIVER for client in self._clients)
        return report_of(self.node_id, self.decider.leases, drivers)

    def _resources_changed(self) -> None:
        self.gcs.resources_changed()
        self._probe.leases_changed()

    # --- connections --------------------------------------------------------------------------------------------------

    def _on_message(self, connection: Connection, message: Any) -> None:
        client = connection.context
        if client is not None:
            self._handlers[type(message)](client, message)
        elif isinstance(message, rm.Register):
            self._register(connection, message)
        else:
            logger.warning("A peer sent a %s before it registered.", type(message).__name__)
            connection.close()

    def _on_connection_closed(self, connection: Connection) -> None:
        client: Client | None = connection.context
        if client is None or self.is_stopping:
            return
        if client.kind == DRIVER:
            alive = is_alive(client.pid, client.start_time)
            self._driver_gone(client, "it disconnected" if alive else "its process ended")
        else:
            # Not a death yet, but nobody new should be sent there.
            self.decider.lease(le.WorkerWithdrawn(client.client_id))
            self._loop.call_later(DEAF_WORKER_S, self._kill_deaf_worker, client)

    def _kill_deaf_worker(self, client: Client) -> None:
        self._keeper.kill(client.client_id, "it closed its connection to the raylet and did not end.")

    def _register(self, connection: Connection, message: rm.Register) -> None:
        refusal = self._why_refused(message)
        if refusal:
            logger.warning("Refused a %s (pid %d): %s", message.kind, message.pid, refusal)
            connection.refuse(rm.Refused(refusal))
            return
        endpoint = Endpoint(message.client_id, self.node_id, message.address)
        job_id = message.job_id or (random_id() if message.kind == DRIVER else b"")
        client = Client(message.client_id, message.kind, message.pid, message.start_time, endpoint, job_id, connection)
        client.wants_output = message.wants_output
        connection.context = client
        self._clients.add(client)
        self._store.client_joined(client.client_id, f"{client.kind} {client.pid}")
        if message.kind == WORKER:
            self._welcome(client)
            process = self._clients.process(client.client_id)
            assert process is not None
            self.output.follow(process.log_path, client)
            self.decider.workers(wp.WorkerRegistered(process.start_id, client.client_id))
            self.decider.lease(le.WorkerReady(client.client_id, process.environment))
            self._has_worker.set()
        else:
            connection.hold()  # What others are told meanwhile comes after the welcome.
            self._watch_process(client)
            job = gcs_messages.RegisterJob(job_id, endpoint, message.pid, message.namespace, message.entrypoint)
            self.gcs.spawn(self._start_job(client, job))

    def _why_refused(self, message: rm.Register) -> str:
        """Why this process cannot be served; "" when it can."""
        if self.is_stopping:
            return "This cluster is shutting down."
        theirs = Versions(message.protocol_version, message.python_version, message.raybook_version)
        apart = why_apart(theirs, OWN, f"the {message.kind}", "this cluster", code_travels=True)
        if apart:
            return apart
        if self._clients.get(message.client_id) is not None:
            return f"A client {message.client_id.hex()} is registered already."
        if message.kind == WORKER:
            process = self._clients.process(message.client_id)
            if process is None or process.kill_reason:
                return "This raylet has started no such worker."
        return ""

    async def _start_job(self, client: Client, job: gcs_messages.RegisterJob) -> None:
        try:
            await self.gcs.call("RegisterJob", job)
        except (RemoteError, ConnectionError) as error:
            client.connection.refuse(rm.Refused(f"The GCS did not take the driver's job: {error}"))
            return
        self._welcome(client)

    def _welcome(self, client: Client) -> None:
        client.connection.send_with_fd(
            rm.Registered(
                self.node_id,
                self.cluster_id,
                client.job_id,
                self._session_dir,
                self.gcs_address,
                self._store.arena_bytes,
                self._config,
                self._ip,
                self._observed,
            ),
            self._store.fd,
        )
        if self._abroad is not None:
            self._abroad.welcome(client)

    def _misbehaved(self, client_id: bytes, text: str) -> None:
        client = self._clients.get(client_id)
        if client is None:
            return
        logger.error("The %s with pid %d broke the store's protocol: %s", client.kind, client.pid, text)
        if client.kind == WORKER:
            self._keeper.kill(client_id, text)
        else:
            client.connection.close()

    # --- drivers ------------------------------------------------------------------------------------------------------

    def _watch_process(self, client: Client) -> None:
        """A pidfd becomes readable when its process ends. The socket may stay open longer, in a forked child."""
        try:
            client.pidfd = os.pidfd_open(client.pid)
        except OSError as error:
            # Another pid namespace (a container with a shared socket): its socket's end must do.
            logger.info("Driver %d cannot be watched: %s", client.pid, error)
            return
        if not is_alive(client.pid, client.start_time):
            self._loop.call_soon(self._driver_gone, client, "its process ended")
        else:
            self._loop.add_reader(client.pidfd, self._driver_gone, client, "its process ended")

    def _driver_gone(self, client: Client, why: str) -> None:
        if self.is_stopping or self._clients.get(client.client_id) is not client:
            return
        logger.info("The driver with pid %d is gone: %s.", client.pid, why)
        self._read_last_messages(client)
        self.on_driver_gone(client.client_id)
        self._forget(client)
        reason = f"The driver (pid {client.pid}) is gone: {why}."
        self.gcs.tell("FinishJob", gcs_messages.FinishJob(client.job_id, reason))
        self._client_gone(client, reason)

    def _client_gone(self, client: Client, reason: str) -> None:
        self._guard.worker_ended(client.client_id)
        self.decider.lease(le.ClientGone(client.client_id))
        self._store.client_died(client.client_id)
        if self._abroad is not None:
            self._abroad.client_gone(client.client_id)
        self.gcs.tell("OwnerGone", gcs_messages.OwnerGone(client.client_id, reason))
        self.gcs.unwatch(client, list(client.watched))

    def _forget(self, client: Client) -> None:
        self._clients.remove(client)
        self.surveys.gone(client)
        if client.pidfd >= 0:
            self._loop.remove_reader(client.pidfd)
            os.close(client.pidfd)
            client.pidfd = -1
        client.connection.close()

    def _read_last_messages(self, client: Client) -> None:
        """What a dead process said before it died still counts: objects it sealed, leases it returned."""
        connection = client.connection
        for _ in range(LAST_MESSAGES_MAX):
            if connection.closed:
                return
            try:
                messages = connection.framed.receive()
            except ConnectionError:
                return
            if not messages:
                return
            for message in messages:
                self._on_message(connection, message)

    # --- messages -----------------------------------------------------------------------------------------------------

    def _message_handlers(self) -> dict[type, Callable[[Client, Any], None]]:
        def to_leases(make: Callable[[bytes, Any], Any]) -> Callable[[Client, Any], None]:
            return lambda client, message: self.decider.lease(make(client.client_id, message))

        handlers: dict[type, Callable[[Client, Any], None]] = {
            **{kind: to_leases(make) for kind, make in LEASE_EVENTS.items()},
            rm.SetDemand: self._set_demand,
            rm.LeaseProbeAnswer: lambda c, m: self._probe.answered(c.client_id, m.probe_id, m.idle),
            rm.ActorStarted: self._keeper.actor_started,
            rm.WorkerExiting: self._keeper.exiting,
            rm.GcsCall: lambda c, m: self.gcs.relay(c, m),
            rm.WatchActor: lambda c, m: self.gcs.watch(c, m.actor_id, m.watch),
            rm.PublishFacts: lambda c, m: self.gcs.publish(m.facts),
            rm.Subscribe: lambda c, m: self.gcs.subscribe(c, m.since_version, m.active),
            rm.ActorDown: lambda c, m: self.gcs.tell(
                "KillActor", gcs_messages.KillActor(m.actor_id, m.no_restart, m.graceful, ALL_HANDLES_GONE)
            ),
            FlushOutput: lambda c, m: self.output.flush(c),
            SurveyAnswer: lambda c, m: self.surveys.answered(c, m),
            rm.Stop: lambda c, m: self.gcs.tell("StopCluster", gcs_messages.StopCluster(m.reason)),
            **{kind: lambda c, m: self._store.received(c.client_id, m) for kind in (*STORE_EVENTS, *SPILL_MESSAGES)},
        }
        if self._abroad is not None:
            handlers.update(self._abroad.handlers(dict(handlers)))
        return handlers

    def _set_demand(self, client: Client, message: rm.SetDemand) -> None:
        what = message.scheduling_class
        demand = LEASE_EVENTS[rm.SetDemand](client.client_id, message)
        self.decider.lease(demand)
        target = node_target(what.strategy) if what.strategy else None
        if target is not None and not target.soft and target.node_id != self.node_id and message.count:
            self._followers.node(demand, target)

    # --- looking ------------------------------------------------------------------------------------------------------

    def statistics(self) -> NodeStats:
        """A snapshot for ``status``."""
        states = {worker: (state, held, actor) for worker, state, held, actor in self.decider.leases.worker_states()}
        workers = []
        for process in self._clients.processes():
            state, held, actor_id = states.get(process.client_id, ("STARTING", {}, b""))
            workers.append(WorkerInfo(process.client_id, process.pid, state, held, actor_id))
        transfers = self._abroad.transfer_statistics() if self._abroad is not None else {}
        used, capacity = self._store.used_bytes(), self._store.capacity_bytes
        waiting = self.drain.waiting() + self.decider.leases.waiting()
        return NodeStats(workers, used, capacity, waiting, transfers)

    def set_observed(self, active: bool) -> None:
        """Somebody looks at the cluster, or nobody any more."""
        self._observed = active
        if active and self._look is None:
            self._look_around()
        self.output.set_observed(active)
        for client in self._clients:
            client.connection.send(rm.Observed(active))

    def _worker_died(self, process: WorkerProcess, text: str) -> None:
        self.notices.event(ERROR, "RAYLET", text, pid=process.pid)

    def _output_ended(self, process: WorkerProcess) -> None:
        self.output.ended(process.log_path)

    def _look_around(self) -> None:
        """While somebody looks: the store's figures."""
        self._look = None
        if not self._observed:
            return
        self._look = self._loop.call_later(self._config.fact_interval_ms / 1000, self._look_around)
        row = self._store.take_changed()
        if row is not None:
            self.gcs.publish([Fact("store", self.node_id.hex(), row)])
