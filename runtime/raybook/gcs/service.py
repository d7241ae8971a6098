"""GCS service: every method of ``protocol/messages/gcs`` as message → event → machine → effects.

The same object serves the embedded head (a function call away) and the GCS process (behind gRPC). It holds the tables
and no policy; what a method means is in ``core/cluster``, what an effect does is in ``gcs/effects``.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from raybook.base.config import Config
from raybook.base.facts import ACTOR_ALIVE, ACTOR_DEAD, GROUP_CREATED, Row
from raybook.base.specs import ActorSpec
from raybook.base.strategies import group_target
from raybook.core.cluster import actor_events, node_table, placement_group_events
from raybook.core.cluster.actor_table import ActorTable
from raybook.core.cluster.job_table import JobTable
from raybook.core.cluster.node_table import NodeTable
from raybook.core.cluster.resource_view import ResourceView
from raybook.core.scheduling.policy import Choice, choose_among
from raybook.gcs import facts, records
from raybook.gcs.drains import DrainDesk
from raybook.gcs.effects import EffectRunner
from raybook.gcs.errands import Errands
from raybook.gcs.facts import FactDesk
from raybook.gcs.inventory import Inventory
from raybook.gcs.keys import KeyDesk
from raybook.gcs.ledger import Ledger
from raybook.gcs.life import LifeDesk
from raybook.gcs.node_feed import NodeFeedDesk
from raybook.gcs.placement_groups import PlacementGroupDesk
from raybook.gcs.scaling import ScalingDesk
from raybook.io.channel import Channel, RemoteError
from raybook.io.clock import Clock
from raybook.io.knock import is_refused
from raybook.io.storage import Storage, StoreError, Write
from raybook.protocol.messages import gcs as messages
from raybook.protocol.messages.node import (
    GcsMoved,
    GetNodeStats,
    NodeStats,
    PlaceActor,
    PlaceActorReply,
    SetObserved,
    StopNode,
)

logger = logging.getLogger(__name__)


class GcsService:
    """One cluster's control plane.

    connect_raylet: makes the channel to a node that registered. ``on_stop`` is called when somebody asks for the end of
    the cluster, ``on_replaced`` when another GCS has taken the store. cluster_id: a fresh one, unless the store has one.
    """

    def __init__(
        self,
        config: Config,
        clock: Clock,
        storage: Storage,
        connect_raylet: Callable[[messages.NodeInfo], Channel],
        cluster_id: bytes = b"",
        seed: int = 0,
    ) -> None:
        self.cluster_id = cluster_id
        self.on_stop: Callable[[str], None] = lambda reason: None
        self.on_replaced: Callable[[str], None] = lambda reason: None
        self._clock = clock
        self._storage = storage
        self._connect_raylet = connect_raylet
        self._started_ms = clock()
        self._draw = random.Random(seed).randrange
        self._view = ResourceView()
        self._nodes = NodeTable(config.health_check_period_ms, config.health_check_timeout_ms)
        self._actors = ActorTable(self._choose, dead_max=config.fact_rows_max)
        self._jobs = JobTable()
        self._facts = FactDesk(config.fact_rows_max, self._owned_row)
        self._probe_timeout_s = config.health_check_timeout_ms / 1000
        self._runner = EffectRunner(self._published, self._answered, self._unreachable)
        self._ledger = Ledger(storage, self._runner.act, self._everything, self._replaced)
        self._keys = KeyDesk(self._ledger)
        self._groups = PlacementGroupDesk(
            self._view,
            clock,
            self._ledger,
            self._runner,
            lambda group_id: self._facts.refresh("placement_group", group_id),
            self._group_turned,
        )
        tables = self._nodes, self._view, self._actors, self._groups.table
        self._scaling = ScalingDesk(*tables, self._runner, self.call, self._facts.add, clock)
        self._next_request = 0
        self._unconfirmed: dict[bytes, None] = {}
        """Nodes of the store that have not registered with this process: it does not know what their clients watch."""
        self._errands = Errands(clock)
        self._arm, self._spawn = self._errands.arm, self._errands.spawn
        self.inventory = Inventory(self._jobs, self._nodes, self._runner, self._runner.ask)
        self._feed = NodeFeedDesk(self._nodes.get, self._disconnected)
        self.life = LifeDesk(self._jobs, self._actors, clock, self._arm, lambda reason: self.request_stop(reason))
        self._methods: dict[str, Callable[[Any], Awaitable[Any]]] = {
            "RegisterNode": self._register_node,
            "ReportNode": self._report_node,
            "ListNodes": self._list_nodes,
            "RegisterJob": self._register_job,
            "FinishJob": self._finish_job,
            "OwnerGone": self._owner_gone,
            "CreateActor": self._create_actor,
            "GetNamedActor": self._get_named_actor,
            "ListActors": self._list_actors,
            "KillActor": self._kill_actor,
            "ActorStateReport": self._actor_state,
            "WatchActors": self._watch_actors,
            "AddFacts": self._add_facts,
            "GetFacts": self._get_facts,
            "ClusterStatus": self._cluster_status,
            "StopCluster": self._stop_cluster,
            **self._keys.methods,
            **DrainDesk(self._nodes, self._runner.ask, self._decide_nodes).methods,
            **self._groups.methods,
            **self._scaling.methods,
            **self.inventory.methods,
            **self._feed.methods,
            **self.life.methods,
        }

    async def start(self) -> None:
        """Take over what the store holds: keys, jobs, actors, and nodes, which are asked what they still run."""
        saved = records.load(self._storage)
        if saved.cluster_id:
            self.cluster_id = saved.cluster_id
        elif not self._storage.is_volatile:
            await self._storage.write(records.write_identity(self.cluster_id))
        for namespace, key, value in saved.key_values:
            self._keys.table.put(namespace, key, value)
        self._jobs.load(saved.jobs)
        self._actors.load(saved.actors)
        called_off = self._groups.load(saved.groups)
        for node in saved.nodes:
            self._unconfirmed[node.node_id] = None
            await self._decide_nodes(node_table.NodeRegistered(node, watched=bool(node.raylet_address)))
            self._spawn(self._take_inventory(node.node_id))
        for info in self._actors.rows():
            self._facts.refresh("actor", info.actor_id)
        await self._groups.act(called_off)
        await self._execute(self._actors.resume(self._clock()))

    async def call(self, method: str, request: Any) -> Any:
        """Answer one request. RemoteError for refusals."""
        handler = self._methods.get(method)
        if handler is None:
            raise RemoteError("ValueError", f"The GCS has no method {method!r}.")
        return await handler(request)

    def driver_pid(self, client_id: bytes) -> int | None:
        """The process of a driver that registered a job, also after the job has ended."""
        record = self._jobs.of_driver(client_id)
        return None if record is None else record.job.pid

    def announce(self, address: str) -> None:
        """Tell the nodes of the store where their GCS is now (host:port), so that they need not find out."""
        # One that listens everywhere does not know by which name others reach it; those here already do.
        everywhere = address.startswith(("0.0.0.0:", "[::]:", ":::"))
        self._runner.send_all("GcsMoved", GcsMoved("" if everywhere else address))

    def _replaced(self, reason: str) -> None:
        self._feed.close()
        self.on_replaced(reason)

    def store_in_trouble(self, error: StoreError) -> None:
        """The store has found out something that no write has met yet."""
        logger.warning("%s", error)
        self._spawn(self._ledger.look())

    async def close(self) -> None:
        """Stop timers, finish writing, let go of the nodes. The storage stays open; who made it closes it."""
        await self._errands.close()
        await self._ledger.close()
        await self._runner.close()

    # ------------------------------------------------------------------ nodes

    async def _register_node(self, request: messages.RegisterNode) -> messages.Empty:
        node = request.node
        refusal = self._nodes.why_refused(node)
        if refusal is not None:
            raise RemoteError(*refusal)
        self._unconfirmed.pop(node.node_id, None)
        await self._decide_nodes(node_table.NodeRegistered(node, watched=bool(node.raylet_address)))
        return messages.Empty()

    async def _report_node(self, request: messages.ReportNode) -> messages.Empty:
        if not self._nodes.is_alive(request.node_id):
            text = f"Node {request.node_id.hex()} is not among the living nodes of this cluster; register first."
            raise RemoteError("UnknownNode", text)
        has_grown = self._view.report(request.node_id, request.resources_available)
        self._scaling.reported(request)
        if self._view.get(request.node_id) is None and (node := self._nodes.get(request.node_id)) is not None:
            node.resources_available = request.resources_available  # It drains: shown, and chosen by nobody.
        self._feed.reported(request.node_id, request.resources_available)
        await self._decide_nodes(node_table.NodeHeard(request.node_id))
        if request.node_id in self._unconfirmed:
            raise RemoteError("UnknownNode", "This GCS has been started anew; register again.")
        self._facts.refresh("node", request.node_id)
        await self._groups.room_changed(request.node_id, has_grown)
        return messages.Empty()

    async def _list_nodes(self, request: messages.ListNodes) -> messages.NodeList:
        return messages.NodeList([self._with_available(node) for node in self._nodes.infos()])

    def _with_available(self, node: messages.NodeInfo) -> messages.NodeInfo:
        resources = self._view.get(node.node_id)
        if resources is not None:
            node.resources_available = dict(resources.available)
        return node

    async def _node_drains(self, node_id: bytes, why: str) -> None:
        """Nothing new goes there; what can begin elsewhere does."""
        drained = self._nodes.get(node_id)
        assert drained is not None, "A node drains that is not in the table."
        self._view.remove(node_id)
        self._feed.joined(drained)
        self._facts.refresh("node", node_id)
        await self._groups.decide(placement_group_events.GroupNodeLost(node_id, f"it drains ({why})"))
        await self._decide_actors(actor_events.NodeDraining(node_id, why), writes=[records.write_node(drained)])

    async def _decide_nodes(self, *events: Any) -> None:
        await self._execute_nodes(self._nodes.handle(events, self._clock()))

    async def _execute_nodes(self, effects: Sequence[Any]) -> None:
        for effect in effects:
            if isinstance(effect, node_table.AnnounceJoined):
                await self._node_joined(effect.node)
            elif isinstance(effect, node_table.AnnounceDraining):
                await self._node_drains(effect.node_id, effect.why)
            elif isinstance(effect, node_table.AnnounceReachable):
                self._runner.resume(effect.node_id)
            elif isinstance(effect, node_table.AnnounceDead):
                await self._node_died(effect.node_id, effect.reason)
            elif isinstance(effect, node_table.Probe):
                self._spawn(self._probe(effect.node_id))
            elif isinstance(effect, node_table.Knock):
                self._spawn(self._knock(effect.node_id))
        self._arm("nodes", self._nodes.next_deadline_ms(), self._decide_nodes)

    async def _node_joined(self, node: messages.NodeInfo) -> None:
        self._runner.add_node(node.node_id, self._connect_raylet(node))
        if not node.draining:
            free = node.resources_available or node.resources_total
            self._view.add(node.node_id, node.resources_total, free, node.labels)
        self._facts.refresh("node", node.node_id)
        if self._facts.is_observed:
            self._runner.send(node.node_id, "SetObserved", SetObserved(True))
        self._feed.joined(node)
        await self._decide_actors(actor_events.NodeJoined(node.node_id), writes=[records.write_node(node)])
        await self._groups.room_changed(node.node_id)

    async def _node_died(self, node_id: bytes, reason: str) -> None:
        logger.warning("Node %s is dead: %s", node_id.hex(), reason)
        self._runner.remove_node(node_id)
        self._scaling.forget(node_id)
        self._view.remove(node_id)
        self._feed.died(node_id)
        self._facts.refresh("node", node_id)
        # Before the actors, which must not look for their bundles there.
        await self._groups.decide(placement_group_events.GroupNodeLost(node_id, reason))
        known = self._nodes.get(node_id)
        events: list[Any] = [actor_events.NodeLost(node_id, reason, known is not None and bool(known.draining))]
        writes = [] if known is None else [records.write_node(known)]
        for record in self._jobs.running():
            if record.job.driver.node_id == node_id:
                because = f"its node {node_id.hex()} is gone."
                writes += self._end_job(record.job.job_id, because)
                events.append(actor_events.JobEnded(record.job.job_id, because))
                await self._groups.decide(placement_group_events.GroupJobEnded(record.job.job_id, because))
        await self._decide_actors(*events, writes=writes)

    async def _probe(self, node_id: bytes) -> None:
        if await self._ask_stats(node_id, self._probe_timeout_s) is not None:
            await self._decide_nodes(node_table.NodeHeard(node_id))

    async def _knock(self, node_id: bytes) -> None:
        node = self._nodes.get(node_id)
        if node is not None and await is_refused(node.raylet_address, self._probe_timeout_s):
            text = f"its raylet has ended: nobody listens at {node.raylet_address} any more."
            await self._decide_nodes(node_table.NodeLeft(node_id, text))

    async def _take_inventory(self, node_id: bytes) -> None:
        stats = await self._ask_stats(node_id, self._probe_timeout_s)
        if stats is not None:
            present = tuple(worker.actor_id for worker in stats.workers if worker.actor_id)
            await self._decide_actors(actor_events.InventoryTaken(node_id, present))

    async def _ask_stats(self, node_id: bytes, timeout_s: float) -> NodeStats | None:
        return await self._runner.ask(node_id, GetNodeStats(), timeout_s)

    def _disconnected(self, node_id: bytes) -> None:
        self._spawn(self._decide_nodes(node_table.NodeDisconnected(node_id)))

    def _unreachable(self, node_id: bytes) -> None:
        self._spawn(self._decide_nodes(node_table.NodeUnreachable(node_id)))

    # ------------------------------------------------------------------ jobs

    async def _register_job(self, request: messages.RegisterJob) -> messages.Empty:
        record = self._jobs.register(request, self._clock())
        await self._execute([], [records.write_job(request.job_id, record)])
        return messages.Empty()

    async def _finish_job(self, request: messages.FinishJob) -> messages.Empty:
        writes = self._end_job(request.job_id, request.reason)
        await self._decide_actors(actor_events.JobEnded(request.job_id, request.reason), writes=writes)
        await self._groups.decide(placement_group_events.GroupJobEnded(request.job_id, request.reason))
        return messages.Empty()

    def _end_job(self, job_id: bytes, reason: str) -> list[Write]:
        record = self._jobs.finish(job_id, reason, self._clock())
        writes = [] if record is None else [records.write_job(job_id, record)]
        forgotten = self._jobs.forget_oldest()
        return writes if forgotten is None else [*writes, records.write_job(forgotten, None)]

    async def _owner_gone(self, request: messages.OwnerGone) -> messages.Empty:
        await self._decide_actors(actor_events.OwnerLost(request.client_id, request.reason))
        return messages.Empty()

    # ------------------------------------------------------------------ actors

    async def _create_actor(self, request: messages.CreateActor) -> messages.ActorCreated:
        self._next_request += 1
        actor_id = request.spec.actor_id
        is_new = self._actors.record(actor_id) is None
        event = actor_events.CreationRequested(self._next_request, request.spec, request.get_if_exists)
        effects = await self._decide_actors(event)
        if is_new and self._ledger.trouble and self._actors.record(actor_id) is not None:
            # Whoever watches it is told by its death, whoever waits for the answer by that.
            await self._decide_actors(actor_events.KillRequested(actor_id, True, False, self._ledger.trouble))
            self._ledger.must_write()
        for effect in effects:
            if isinstance(effect, actor_events.RefuseCreation):
                raise RemoteError(effect.code, effect.text)
            if isinstance(effect, actor_events.AnswerCreation):
                return messages.ActorCreated(effect.existing)
        raise RemoteError("RaySystemError", f"No answer for the creation of actor {request.spec.actor_id.hex()}.")

    async def _get_named_actor(self, request: messages.GetNamedActor) -> messages.ActorReply:
        return messages.ActorReply(self._actors.by_name(request.name, request.namespace))

    async def _list_actors(self, request: messages.ListActors) -> messages.ActorList:
        return messages.ActorList(self._actors.rows())

    async def _kill_actor(self, request: messages.KillActor) -> messages.Empty:
        await self._decide_actors(
            actor_events.KillRequested(request.actor_id, request.no_restart, request.graceful, request.reason)
        )
        return messages.Empty()

    async def _actor_state(self, request: messages.ActorStateReport) -> messages.Empty:
        await self._decide_actors(actor_events.StateReported(request))
        return messages.Empty()

    async def _watch_actors(self, request: messages.WatchActors) -> messages.ActorList:
        await self._decide_actors(actor_events.WatchRequested(request.node_id, tuple(request.actor_ids), request.watch))
        return messages.ActorList([self._actors.info(actor_id) for actor_id in request.actor_ids if request.watch])

    def _choose(self, spec: ActorSpec, refused: Any) -> Choice:
        target = group_target(spec.strategy)
        if target is not None:
            return self._groups.choose(target, refused)
        choice = choose_among(spec, self._view, self._draw, refused)
        if choice.node_id is not None:
            self._view.reserve(choice.node_id, spec.placement)
        return choice

    def _answered(self, node_id: bytes, request: Any, reply: Any) -> None:
        """A raylet answered a call of the outbox."""
        if isinstance(request, PlaceActor):
            accepted = isinstance(reply, PlaceActorReply) and reply.accepted
            reason = "" if accepted else getattr(reply, "reason", "") or str(reply)
            event = actor_events.PlacementAnswered(
                request.spec.actor_id, request.incarnation, node_id, accepted, reason
            )
            self._spawn(self._decide_actors(event))
        elif (answer := self._groups.answer_of(node_id, request, reply)) is not None:
            self._spawn(self._groups.decide(answer))
        elif (moved := self._scaling.answer_of(node_id, request, reply)) is not None:
            self._spawn(self._decide_actors(moved))
        elif isinstance(reply, RemoteError):
            logger.warning("Node %s refused a %s: %s", node_id.hex(), type(request).__name__, reply)

    async def _group_turned(self, info: messages.PlacementGroupInfo) -> None:
        """A placement group became CREATED or REMOVED: its actors hear of it."""
        group_id = info.spec.group_id
        if self._actors.lives_in(group_id):
            created = info.state == GROUP_CREATED
            await self._decide_actors(
                actor_events.GroupCreated(group_id) if created else actor_events.GroupRemoved(group_id, info.death)
            )

    async def _decide_actors(self, *events: Any, writes: Sequence[Write] = ()) -> list[Any]:
        effects = self._actors.handle(events, self._clock())
        await self._execute(effects, writes)
        deadline_ms = self._actors.next_deadline_ms()
        if deadline_ms is not None:
            self._arm("actors", deadline_ms, self._decide_actors)
        for effect in effects:
            if isinstance(effect, actor_events.Publish) and effect.info.state == ACTOR_DEAD:
                if self._groups.table.is_creator(effect.info.actor_id):
                    died = placement_group_events.CreatorActorDied(effect.info.actor_id, effect.info.death)
                    await self._groups.decide(died)
        return effects

    async def _execute(self, effects: Sequence[Any], writes: Sequence[Write] = ()) -> None:
        if not self._storage.is_volatile:
            rows: dict[bytes, Write] = {}
            for effect in effects:
                if isinstance(effect, (actor_events.PersistActor, actor_events.ForgetActor)):
                    record = self._actors.record(effect.actor_id)
                    rows[effect.actor_id] = records.write_actor(effect.actor_id, record)
            writes = [*writes, *rows.values()]
        await self._ledger.run(writes, effects)

    def _everything(self) -> list[Write]:
        """All rows of all tables."""
        tables = self._actors, self._jobs, self._nodes, self._keys.table, self._groups.table
        return records.everything(records.state_of(self.cluster_id, *tables))

    # ------------------------------------------------------------------ facts

    async def _add_facts(self, request: messages.AddFacts) -> messages.Empty:
        self._facts.add(request.facts)
        return messages.Empty()

    async def _get_facts(self, request: messages.GetFacts) -> messages.FactsReply:
        reply, first = self._facts.read(request.since_version, self._clock())
        if first:
            self._runner.send_all("SetObserved", SetObserved(True))
            await self._check_observers()
        return reply

    def fact_rows(self, kind: str) -> list[Row]:
        """What was told of a kind of things."""
        return self._facts.rows(kind)

    async def _check_observers(self) -> None:
        again_ms = self._facts.look_again_ms(self._clock())
        if again_ms is None:
            self._runner.send_all("SetObserved", SetObserved(False))
        self._arm("observed", again_ms, self._check_observers)

    def _owned_row(self, kind: str, key: bytes) -> Row:
        if kind == "actor":
            known = self._actors.record(key) is not None
            return facts.actor_row(self._actors.info(key)) if known else {}
        if kind == "placement_group":
            group = self._groups.table.info(key)
            return {} if group is None else facts.placement_group_row(group)
        node = self._nodes.get(key)
        return {} if node is None else facts.node_row(self._with_available(node))

    def _published(self, effect: actor_events.Publish) -> None:
        self._facts.refresh("actor", effect.info.actor_id)

    # ------------------------------------------------------------------ the cluster

    async def _cluster_status(self, request: messages.ClusterStatus) -> messages.ClusterStatusReply:
        waiting = [self._ledger.trouble] if self._ledger.trouble else []
        waiting += self._actors.waiting() + self._groups.table.waiting()
        for account in (await self.inventory.node_statistics()).values():
            waiting += account.waiting
        return messages.ClusterStatusReply(
            cluster_id=self.cluster_id,
            started_ms=self._started_ms,
            nodes=[self._with_available(node) for node in self._nodes.infos()],
            actors_alive=sum(info.state == ACTOR_ALIVE for info in self._actors.rows()),
            jobs=len(self._jobs.running()),
            waiting=waiting,
        )

    async def _stop_cluster(self, request: messages.StopCluster) -> messages.Empty:
        self.request_stop(request.reason or "somebody asked for it")
        return messages.Empty()

    def request_stop(self, reason: str) -> None:
        """Tell the nodes of other processes to end, and this process by ``on_stop``."""
        self._feed.close()
        for node in self._nodes.infos():
            if node.alive and node.raylet_address:
                self._runner.send(node.node_id, "StopNode", StopNode(reason))
        asyncio.get_running_loop().call_soon(self.on_stop, reason)

    async def say_farewell(self, timeout_s: float) -> None:
        """Wait until the nodes have taken what they were told, or for ``timeout_s``."""
        await self._runner.drain(timeout_s)
