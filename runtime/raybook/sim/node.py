"""Node: a raylet in virtual time: the shipped lease manager, worker pool and object table, wired as in ``raylet/``.

Messages become events by ``core/node/translation``, effects become messages, forks, kills or calls of the GCS. What of
``raylet/service`` and ``raylet/worker_keeper`` is the order in which a death is told is repeated here. Its side of the GCS
is in ``gcs_link``, that of other nodes in ``abroad``. Decides nothing.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from raybook.base.facts import ACTOR_ALIVE, ACTOR_DEAD
from raybook.base.label_selector import NODE_ID_LABEL
from raybook.base.specs import Endpoint
from raybook.core.node import lease_events as le
from raybook.core.node import worker_pool as wp
from raybook.core.node.lease_manager import LeaseManager
from raybook.core.node.local_resources import LocalResources
from raybook.core.node.translation import LEASE_EVENTS, LEASE_MESSAGES, lease_granted
from raybook.protocol.messages import gcs as gm
from raybook.protocol.messages import raylet as rm
from raybook.sim.abroad import Abroad
from raybook.sim.arena import Arena
from raybook.sim.drains import DrainService
from raybook.sim.gcs_link import GcsLink
from raybook.sim.network import TO_RAYLET, Port
from raybook.sim.node_service import Followers, NodeService
from raybook.sim.store import Disk, Store
from raybook.sim.timeline import Timer

if TYPE_CHECKING:
    from raybook.sim.process import Process
    from raybook.sim.world import World

FORK_US = 4_000
REAP_US = 3_000
"""How long a death may take to be reported."""


@dataclass(slots=True, eq=False)
class Client:
    """One registered process."""

    process: Process
    port: Port
    endpoint: Endpoint
    watched: dict[bytes, None] = field(default_factory=dict)


@dataclass(slots=True, eq=False)
class Child:
    """One ordered worker."""

    start_id: int
    client_id: bytes
    environment: str
    process: Process | None = None
    kill_reason: str = ""
    leaving: bool = False


class Node:
    """resources: fixed-point totals. store_bytes: budget of the arena. has_others: there are other nodes, or may be."""

    def __init__(
        self, world: World, node_id: bytes, resources: dict[str, int], store_bytes: int, *, has_others: bool = False
    ) -> None:
        self.world = world
        self.node_id = self.place = node_id
        self.name = node_id.decode("ascii", "replace")
        self.is_alive = True
        self.arena = Arena()
        self.disk = Disk()
        cpus = resources.get("CPU", 0) // 10_000
        config = world.config
        self.resources = resources
        self.store_bytes = store_bytes
        self.labels = {NODE_ID_LABEL: node_id.hex()}
        self.gateway = f"tcp:{self.name}" if has_others else ""
        self.leases = LeaseManager(LocalResources(resources), max(16, 4 * cpus), self.labels)
        self.pool = wp.WorkerPool(cpus, cpus, 8, config.worker_idle_ms, config.worker_start_timeout_ms)
        self.store = Store(world, self, store_bytes)
        self.clients: dict[bytes, Client] = {}
        self.children: dict[bytes, Child] = {}
        self._by_start: dict[int, Child] = {}
        self._by_port: dict[Port, Client] = {}
        self._queue: deque[tuple[Any, tuple[Any, ...]]] = deque()
        self._is_running = False
        self._timers: dict[int, Timer] = {}
        self.gcs = GcsLink(self)
        self.service = NodeService(self)
        self.drain = DrainService(self)
        self.abroad = Abroad(self) if has_others else None
        self.followers = Followers(self)
        self._carry_out: dict[type, Callable[[Any], None]] = {
            **{kind: self._pass_on for kind in LEASE_MESSAGES},
            le.Grant: self._grant,
            le.FollowGroup: lambda effect: self.followers.group(effect.group_id),
            le.ActorGone: self._actor_gone,
            le.KillWorker: self._kill_worker,
            le.StartWorkers: lambda e: self.tell(self.pool, wp.WorkersLacking(e.environment, e.count)),
            le.WorkerTaken: lambda e: self.tell(self.pool, wp.WorkerBusy(e.worker, e.dedicated)),
            le.WorkerReleased: lambda e: self.tell(self.pool, wp.WorkerIdle(e.worker)),
            le.ReportResources: lambda effect: self.gcs.resources_changed(),
            wp.StartWorker: self._start_worker,
            wp.AbandonStart: lambda e: self._kill(self._by_start[e.start_id], "it had not registered in time"),
            wp.EndWorker: lambda e: self.tell(self.leases, le.WorkerWithdrawn(e.worker)),
            wp.WorkerStayed: lambda e: self.tell(self.leases, le.WorkerReady(e.worker)),
        }
        self._handlers: dict[type, Callable[[Client, Any], None]] = {
            rm.GcsCall: lambda c, m: self.gcs.relay(c, m),
            rm.WatchActor: lambda c, m: self.gcs.watch(c, m),
            rm.ActorDown: lambda c, m: self.gcs.tell(
                "KillActor", gm.KillActor(m.actor_id, m.no_restart, m.graceful, "its last handle went")
            ),
            rm.ActorStarted: self._actor_started,
            rm.WorkerExiting: self._exiting,
        }

    def start(self) -> None:
        """Order the first workers, and make the node known."""
        self.gcs.start()
        if self.abroad is not None:
            self.store.joined(self.node_id, "copies of other nodes' objects")
            self.abroad.start()
        self.tell(self.pool)

    def stop(self, reason: str) -> None:
        """Everything on this node ends at once: the machine is lost, its raylet was killed, or the GCS holds it for dead."""
        if self.is_alive:
            self.is_alive = False
            self.service.life += 1
            self.gcs.close()
            if self.abroad is not None:
                self.abroad.close()
            for timer in self._timers.values():
                timer.cancel()
            self.world.node_ended(self, reason)

    # The deciders

    def tell(self, machine: Any, *events: Any) -> None:
        """Events that arise while effects are carried out wait for their turn, so that effects stay in order."""
        if not self.is_alive:
            return
        self._queue.append((machine, events))
        if self._is_running:
            return
        self._is_running = True
        touched: dict[int, Any] = {}
        while self._queue:
            machine, events = self._queue.popleft()
            touched[id(machine)] = machine
            for effect in machine.handle(events, self.world.timeline.now_ms):
                self._carry_out[type(effect)](effect)
        self._is_running = False
        for machine in touched.values():
            self._arm(machine)
        self.world.check.grants.looked_at(self)

    def _arm(self, machine: Any) -> None:
        timer = self._timers.pop(id(machine), None)
        if timer is not None:
            timer.cancel()
        deadline_ms = machine.next_deadline_ms()
        if deadline_ms is not None:
            self._timers[id(machine)] = self.world.timeline.at((deadline_ms + 1) * 1000, self.tell, machine)

    def send(self, client_id: bytes, message: Any) -> None:
        """To a client, if it is connected, here or to another node; or to this node as a client of its own store."""
        client = self.clients.get(client_id)
        if client is not None:
            client.port.send(message)
        elif self.abroad is not None and client_id == self.node_id:
            self.abroad.transfers.from_store(message)
        elif self.abroad is not None:
            self.abroad.send_guest(client_id, message)

    def serves(self, client_id: bytes) -> bool:
        """Whether this is a client of this node, or one of another node that is served here."""
        return client_id in self.clients or (self.abroad is not None and client_id in self.abroad.guests)

    def _grant(self, effect: le.Grant) -> None:
        worker = self.clients[effect.worker]
        self.world.check.grants.granted(self, effect)
        self.world.check.drains.granted(self, effect)
        self.send(effect.client, lease_granted(effect, worker.endpoint, worker.process.pid))
        if self.abroad is not None:
            self.abroad.granted(effect.client, effect.class_key)

    def _pass_on(self, effect: Any) -> None:
        self.world.check.grants.passed_on(self, effect)
        self.send(*LEASE_MESSAGES[type(effect)](effect))

    # Clients

    def join(self, process: Process) -> None:
        """A process has connected and registered."""
        near, far = self.world.network.connect(process, self, TO_RAYLET)
        process.link = near
        client = Client(process, far, process.me)
        self.clients[process.client_id] = client
        self._by_port[far] = client
        self.store.joined(process.client_id, process.name)
        if self.abroad is not None:
            self.abroad.welcome(client)
        if process.kind == "driver":
            self.gcs.tell("RegisterJob", gm.RegisterJob(process.job_id, process.me, process.pid))

    def arrived(self, port: Port, message: Any) -> None:
        """One message of a client."""
        client = self._by_port.get(port)
        if client is None or not self.is_alive:
            return
        kind = type(message)
        if self.abroad is not None:
            if kind is rm.SetDemand:
                self.abroad.set_demand(client, message)
                return
            if self.abroad.passes_on(client, message):
                return
        to_leases = LEASE_EVENTS.get(kind)
        if to_leases is not None:
            self.world.check.grants.heard(self, client.process.client_id, message)
            self.tell(self.leases, to_leases(client.process.client_id, message))
        elif kind in self._handlers:
            self._handlers[kind](client, message)
        else:
            self.store.received(client.process.client_id, message)

    def ended(self, port: Port) -> None:
        """A client's connection is closed: its process has died, or will."""
        client = self._by_port.get(port)
        if client is None:
            return
        if client.process.kind == "driver":
            self._driver_gone(client)
        else:
            self.tell(self.leases, le.WorkerWithdrawn(client.process.client_id))

    broke = ended

    def _driver_gone(self, client: Client) -> None:
        if not self.is_alive or self.clients.get(client.process.client_id) is not client:
            return
        client.port.read_all()
        self._forget(client)
        self.gcs.tell("FinishJob", gm.FinishJob(client.process.job_id, "The driver is gone."))
        self._client_gone(client, "The driver is gone.")

    def _client_gone(self, client: Client, reason: str) -> None:
        client_id = client.process.client_id
        self.tell(self.leases, le.ClientGone(client_id))
        self.store.died(client_id)
        if self.abroad is not None:
            self.abroad.client_gone(client_id)
        self.gcs.tell("OwnerGone", gm.OwnerGone(client_id, reason))
        self.gcs.unwatch(list(client.watched))

    def _forget(self, client: Client) -> None:
        self.clients.pop(client.process.client_id, None)
        self._by_port.pop(client.port, None)
        client.port.close()

    # Workers

    def _start_worker(self, effect: wp.StartWorker) -> None:
        child = Child(effect.start_id, self.world.next_client_id(b"w"), effect.environment)
        self.children[child.client_id] = child
        self._by_start[effect.start_id] = child
        delay_us = FORK_US + int(self.world.rng.random() * FORK_US)
        self.world.timeline.after(delay_us, self._forked, child)

    def _forked(self, child: Child) -> None:
        if not self.is_alive:
            return
        if child.kill_reason or self.world.faults.fails_to_start():
            self._child_gone(child)
            self.tell(self.pool, wp.WorkerStartFailed(child.start_id))
            return
        process = self.world.make_worker(self, child.client_id)
        child.process = process
        self.join(process)
        self.tell(self.pool, wp.WorkerRegistered(child.start_id, child.client_id))
        self.tell(self.leases, le.WorkerReady(child.client_id, child.environment))

    def _child_gone(self, child: Child) -> None:
        self.children.pop(child.client_id, None)
        self._by_start.pop(child.start_id, None)

    def reap(self, process: Process, reason: str) -> None:
        """A process has ended; ``waitpid`` says so in a moment."""
        client = self.clients.get(process.client_id)
        if client is None:
            return
        told = self._driver_gone if process.kind == "driver" else self._worker_exited
        args = (client,) if process.kind == "driver" else (client, reason)
        self.world.timeline.after(int(self.world.rng.random() * REAP_US), told, *args)

    def _worker_exited(self, client: Client, reason: str) -> None:
        if not self.is_alive:
            return
        client_id = client.process.client_id
        child = self.children[client_id]
        client.port.read_all()
        self._child_gone(child)
        self._forget(client)
        self.tell(self.pool, wp.WorkerLeft(client_id))
        text = child.kill_reason or reason or "it ended by itself"
        self.world.check.grants.died(self, client_id)
        self.tell(self.leases, le.WorkerDied(client_id, text, 0 if not reason else -9, False, child.leaving))
        self._client_gone(client, text)

    def _kill_worker(self, effect: le.KillWorker) -> None:
        child = self.children.get(effect.worker)
        if child is None:
            return
        if effect.graceful and child.client_id in self.clients:
            self.send(child.client_id, rm.ExitWorker(effect.reason))
        else:
            self._kill(child, effect.reason)

    def _kill(self, child: Child, reason: str) -> None:
        child.kill_reason = child.kill_reason or reason
        if child.process is not None:
            child.process.die(reason)

    def _exiting(self, client: Client, message: rm.WorkerExiting) -> None:
        child = self.children.get(client.process.client_id)
        if child is not None:
            child.leaving = True
            self.tell(self.pool, wp.WorkerLeft(client.process.client_id))
            self.world.check.grants.leaving(self, client.process.client_id, message.stays)
            self.tell(self.leases, le.WorkerLeaving(client.process.client_id, message.stays))

    # Actors

    def _actor_gone(self, effect: le.ActorGone) -> None:
        report = gm.ActorStateReport(
            effect.actor_id, effect.incarnation, ACTOR_DEAD, reason=effect.reason, intended=effect.intended
        )
        self.gcs.tell("ActorStateReport", report)

    def _actor_started(self, client: Client, message: rm.ActorStarted) -> None:
        actor = self.leases.actor_of(client.process.client_id)
        if actor is None or actor.spec.actor_id != message.actor_id:
            return
        actor_id, life = message.actor_id, actor.incarnation
        if message.error:
            report = gm.ActorStateReport(
                actor_id, life, ACTOR_DEAD, reason=message.error_text, creation_failed=True, payload=message.error
            )
            self.gcs.tell("ActorStateReport", report)
            self.tell(self.leases, le.ActorFailed(client.process.client_id, message.error_text))
            return
        self.tell(self.leases, le.ActorReady(client.process.client_id))
        self.gcs.tell(
            "ActorStateReport",
            gm.ActorStateReport(actor_id, life, ACTOR_ALIVE, client.endpoint, client.process.pid),
        )

    def running_actors(self) -> tuple[bytes, ...]:
        """What an inventory finds."""
        return tuple(actor_id for _, _, _, actor_id in self.leases.worker_states() if actor_id)
