"""GCS: the shipped actor, node, job and group tables and resource view in virtual time, with a store that outlives a crash.

As ``gcs/service``: requests become events, effects become calls of nodes, what is to be persisted is written first.
A crash loses everything else; questions from then on find nobody until ``start``. Decides nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import msgspec

from raybook.base.drains import PREEMPTION
from raybook.base.facts import ACTOR_DEAD, GROUP_CREATED
from raybook.base.specs import ActorSpec
from raybook.base.strategies import group_target
from raybook.core.cluster import actor_events, node_table
from raybook.core.cluster import placement_group_events as group_events
from raybook.core.cluster.actor_record import ActorRecord
from raybook.core.cluster.actor_table import ActorTable
from raybook.core.cluster.job_table import JobRecord, JobTable
from raybook.core.cluster.node_feed import NodeFeed
from raybook.core.cluster.node_table import NodeTable
from raybook.core.cluster.resource_view import ResourceView
from raybook.core.scheduling.policy import Choice, choose_among
from raybook.protocol.messages import gcs as gm
from raybook.protocol.messages import node as nm
from raybook.sim.calls import Away, Outbox, Refusal
from raybook.sim.groups import Groups
from raybook.sim.network import GCS_PLACE
from raybook.sim.timeline import Timer

if TYPE_CHECKING:
    from raybook.sim.world import World

_encode, _decode = msgspec.msgpack.encode, msgspec.msgpack.decode


class Gcs:
    """One cluster's control plane."""

    def __init__(self, world: World) -> None:
        self.life = 0
        self.is_up = False
        self.clock_ahead_ms = 0
        """By how much its clock has jumped."""
        self._world = world
        self._actor_rows: dict[bytes, bytes] = {}
        self._job_rows: dict[bytes, bytes] = {}
        self._node_rows: dict[bytes, bytes] = {}
        self._group_rows: dict[bytes, bytes] = {}
        self._outboxes: dict[bytes, Outbox] = {}
        self._timers: dict[str, Timer] = {}
        self._methods: dict[str, Callable[[Any], Any]] = {
            "RegisterNode": self._register_node,
            "ReportNode": self._report_node,
            "WatchNodes": self._watch_nodes,
            "UnregisterNode": lambda r: self._nodes_hear(node_table.NodeLeft(r.node_id, r.reason)),
            "RegisterJob": self._register_job,
            "FinishJob": self._finish_job,
            "OwnerGone": lambda r: self._actors_hear(actor_events.OwnerLost(r.client_id, r.reason)),
            "CreateActor": self._create_actor,
            "KillActor": lambda r: self._actors_hear(
                actor_events.KillRequested(r.actor_id, r.no_restart, r.graceful, r.reason)
            ),
            "ActorStateReport": lambda r: self._actors_hear(actor_events.StateReported(r)),
            "WatchActors": self._watch_actors,
        }

    # Life

    def start(self) -> None:
        """Come up, with what the store holds."""
        self.life += 1
        self.is_up = True
        config = self._world.config
        self._view = ResourceView()
        self.nodes = NodeTable(config.health_check_period_ms, config.health_check_timeout_ms)
        self._feed = NodeFeed()
        self._epoch = b"gcs%05d" % self.life
        self.actors = ActorTable(self._choose)
        self._jobs = JobTable()
        self.groups = Groups(self._world, self._view, self._group_rows, self._send, self._group_turned)
        self._next_request = 0
        self._unconfirmed: dict[bytes, None] = {}
        self._jobs.load([_decode(row, type=JobRecord) for row in self._job_rows.values()])
        self.actors.load([_decode(row, type=ActorRecord) for row in self._actor_rows.values()])
        called_off = self.groups.load()
        for row in list(self._node_rows.values()):
            info = _decode(row, type=gm.NodeInfo)
            self._unconfirmed[info.node_id] = None
            self._nodes_hear(node_table.NodeRegistered(info))
            self._world.timeline.after(self._world.network.latency_us(), self._take_inventory, info.node_id, self.life)
        self.groups.act(called_off)
        self._execute(self.actors.resume(self._now_ms()))

    def _now_ms(self) -> int:
        return self._world.timeline.now_ms + self.clock_ahead_ms

    def jump(self, span_ms: int) -> None:
        """Its clock reads so much more from now on: the process was stopped, or its machine was."""
        self.clock_ahead_ms += span_ms
        if self.is_up:
            self._nodes_hear()

    def crash(self) -> None:
        """Everything in memory is gone."""
        self.is_up = False
        self.life += 1
        for outbox in self._outboxes.values():
            outbox.close()
        self._outboxes.clear()
        for timer in self._timers.values():
            timer.cancel()
        self._timers.clear()

    def call(self, method: str, request: Any) -> Any:
        """Answer one request. Refusal, Away."""
        if not self.is_up:
            raise Away
        handler = self._methods.get(method) or self.groups.methods[method]
        reply = handler(request)
        self._world.check.after_gcs(self)
        return gm.Empty() if reply is None else reply

    # Nodes

    def _register_node(self, request: gm.RegisterNode) -> None:
        known = self.nodes.get(request.node.node_id)
        if known is not None and not known.alive:
            raise Refusal("NodeDiedError", f"it was declared dead ({known.death_reason})")
        self._unconfirmed.pop(request.node.node_id, None)
        self._nodes_hear(node_table.NodeRegistered(request.node))

    def _report_node(self, request: gm.ReportNode) -> None:
        if not self.nodes.is_alive(request.node_id):
            raise Refusal("UnknownNode", "register first")
        has_grown = self._view.report(request.node_id, request.resources_available)
        self._feed.reported(request.node_id, request.resources_available)
        self._nodes_hear(node_table.NodeHeard(request.node_id))
        if request.node_id in self._unconfirmed:
            raise Refusal("UnknownNode", "This GCS has been started anew; register again.")
        self.groups.room_changed(request.node_id, has_grown)

    def _watch_nodes(self, request: gm.WatchNodes) -> gm.NodesDelta:
        since = request.since if request.epoch == self._epoch else 0
        changes = self._feed.since(since, request.amounts)
        if changes is None:
            return gm.NodesDelta(self._epoch, since, self._feed.version)
        rows = [row for node_id in changes.members if (row := self.nodes.get(node_id)) is not None]
        for row in rows:
            row.resources_available = self._feed.available(row.node_id)
        amounts = [gm.FreeAmounts(node_id, self._feed.available(node_id)) for node_id in changes.amounts]
        return gm.NodesDelta(self._epoch, since, changes.version, rows, amounts, changes.reset, changes.newest)

    def _nodes_hear(self, *events: Any) -> None:
        for effect in self.nodes.handle(events, self._now_ms()):
            if isinstance(effect, node_table.AnnounceJoined):
                self._node_joined(effect.node)
            elif isinstance(effect, node_table.AnnounceDraining):
                self._node_drains(effect.node_id, effect.why)
            elif isinstance(effect, node_table.AnnounceReachable):
                outbox = self._outboxes.get(effect.node_id)
                if outbox is not None:
                    outbox.resume()
            elif isinstance(effect, node_table.Probe):
                delay_us = 2 * self._world.network.latency_us()
                self._world.timeline.after(delay_us, self._probed, effect.node_id, self.life)
            elif isinstance(effect, node_table.Knock):
                self._world.timeline.after(self._world.network.latency_us(), self._knocked, effect.node_id, self.life)
            elif isinstance(effect, node_table.AnnounceDead):
                self._node_died(effect.node_id, effect.reason)
        self._arm("nodes", self.nodes.next_deadline_ms(), self._nodes_hear)

    def _reaches(self, node_id: bytes) -> bool:
        return node_id in self._world.nodes and not self._world.network.is_cut(node_id, GCS_PLACE)

    def _probed(self, node_id: bytes, life: int) -> None:
        if life == self.life and self._reaches(node_id):
            self._nodes_hear(node_table.NodeHeard(node_id))

    def _knocked(self, node_id: bytes, life: int) -> None:
        is_cut = self._world.network.is_cut(node_id, GCS_PLACE)
        if life == self.life and not is_cut and node_id in self._world.dead_nodes:
            self._nodes_hear(node_table.NodeLeft(node_id, "its raylet has ended: nobody listens there any more."))

    def node_disconnected(self, node_id: bytes) -> None:
        """The connection of its question broke, as it does when its process ends."""
        if self.is_up and not self._world.network.is_cut(node_id, GCS_PLACE):
            self._nodes_hear(node_table.NodeDisconnected(node_id))

    def _node_joined(self, node: gm.NodeInfo) -> None:
        node_id, world = node.node_id, self._world
        outbox = self._outboxes.get(node_id)
        if outbox is not None:
            outbox.resume()
        elif node_id in world.nodes or node_id in world.dead_nodes:
            service = world.node(node_id).service
            self._outboxes[node_id] = Outbox(
                world.timeline, service, world.network.latency_us, lambda: self._reaches(node_id),
                lambda: self._nodes_hear(node_table.NodeUnreachable(node_id)),
            )  # fmt: skip
        if not node.draining:
            self._view.add(node_id, node.resources_total, node.resources_available, node.labels)
        self._node_rows[node_id] = _encode(node)
        self._feed.joined(node_id, node.resources_available)
        self._actors_hear(actor_events.NodeJoined(node_id))
        self.groups.room_changed(node_id)

    def drain(self, node_id: bytes, deadline_ms: int) -> None:
        """Somebody wants a node to leave."""
        if self.is_up:
            request = nm.DrainRaylet(PREEMPTION, "a fault of the schedule", deadline_ms)
            self._send(node_id, "DrainRaylet", request, self._drain_answered)

    def _drain_answered(self, node_id: bytes, request: Any, reply: Any) -> None:
        if reply.accepted:
            self._nodes_hear(node_table.NodeDraining(node_id, reply.draining))

    def _node_drains(self, node_id: bytes, why: str) -> None:
        drained = self.nodes.get(node_id)
        assert drained is not None, "A node drains that is not in the table."
        self._view.remove(node_id)
        self._feed.joined(node_id, drained.resources_available)
        self._node_rows[node_id] = _encode(drained)
        self.groups.hear(group_events.GroupNodeLost(node_id, f"it drains ({why})"))
        self._actors_hear(actor_events.NodeDraining(node_id, why))

    def _node_died(self, node_id: bytes, reason: str) -> None:
        self._world.note_node_dead(node_id, reason)
        outbox = self._outboxes.pop(node_id, None)
        if outbox is not None:
            outbox.close()
        self._view.remove(node_id)
        self._feed.died(node_id)
        self._node_rows.pop(node_id, None)
        self.groups.hear(group_events.GroupNodeLost(node_id, reason))
        known = self.nodes.get(node_id)
        events: list[Any] = [actor_events.NodeLost(node_id, reason, known is not None and bool(known.draining))]
        for record in self._jobs.running():
            if record.job.driver.node_id == node_id:
                self._end_job(record.job.job_id, "its node is gone.")
                events.append(actor_events.JobEnded(record.job.job_id, "its node is gone."))
                self.groups.hear(group_events.GroupJobEnded(record.job.job_id, "its node is gone."))
        self._actors_hear(*events)

    def _take_inventory(self, node_id: bytes, life: int) -> None:
        if life == self.life and self._reaches(node_id):
            present = self._world.nodes[node_id].running_actors()
            self._actors_hear(actor_events.InventoryTaken(node_id, present))

    # Jobs

    def _register_job(self, request: gm.RegisterJob) -> None:
        record = self._jobs.register(request, self._now_ms())
        self._job_rows[request.job_id] = _encode(record)

    def _finish_job(self, request: gm.FinishJob) -> None:
        self._end_job(request.job_id, request.reason)
        self._actors_hear(actor_events.JobEnded(request.job_id, request.reason))
        self.groups.hear(group_events.GroupJobEnded(request.job_id, request.reason))

    def _end_job(self, job_id: bytes, reason: str) -> None:
        record = self._jobs.finish(job_id, reason, self._now_ms())
        if record is not None:
            self._job_rows[job_id] = _encode(record)

    # Actors

    def _create_actor(self, request: gm.CreateActor) -> gm.ActorCreated:
        self._next_request += 1
        event = actor_events.CreationRequested(self._next_request, request.spec, request.get_if_exists)
        for effect in self._actors_hear(event):
            if isinstance(effect, actor_events.RefuseCreation):
                raise Refusal(effect.code, effect.text)
        return gm.ActorCreated(None)

    def _watch_actors(self, request: gm.WatchActors) -> gm.ActorList:
        self._actors_hear(actor_events.WatchRequested(request.node_id, tuple(request.actor_ids), request.watch))
        return gm.ActorList([self.actors.info(actor_id) for actor_id in request.actor_ids if request.watch])

    def _choose(self, spec: ActorSpec, refused: Mapping[bytes, str]) -> Choice:
        target = group_target(spec.strategy)
        if target is not None:
            return self.groups.choose(target, refused)
        choice = choose_among(spec, self._view, self._world.rng.randrange, refused)
        if choice.node_id is not None:
            self._view.reserve(choice.node_id, spec.placement)
        return choice

    def _group_turned(self, info: gm.PlacementGroupInfo) -> None:
        group_id = info.spec.group_id
        if self.actors.lives_in(group_id):
            created = info.state == GROUP_CREATED
            self._actors_hear(
                actor_events.GroupCreated(group_id) if created else actor_events.GroupRemoved(group_id, info.death)
            )

    def _actors_hear(self, *events: Any) -> list[Any]:
        effects = self.actors.handle(events, self._now_ms())
        self._execute(effects)
        self._arm("actors", self.actors.next_deadline_ms(), self._actors_hear)
        for effect in effects:
            if isinstance(effect, actor_events.Publish) and effect.info.state == ACTOR_DEAD:
                if self.groups.table.is_creator(effect.info.actor_id):
                    self.groups.hear(group_events.CreatorActorDied(effect.info.actor_id, effect.info.death))
        return effects

    def _execute(self, effects: list[Any]) -> None:
        for effect in effects:
            if isinstance(effect, actor_events.PersistActor):
                self._actor_rows[effect.actor_id] = _encode(self.actors.record(effect.actor_id))
            elif isinstance(effect, actor_events.ForgetActor):
                self._actor_rows.pop(effect.actor_id, None)
        for effect in effects:
            if isinstance(effect, actor_events.Place):
                place = nm.PlaceActor(effect.spec, effect.incarnation, effect.restarts)
                self._send(effect.node_id, "PlaceActor", place, self._placed)
            elif isinstance(effect, actor_events.StopOn):
                stop = nm.StopActor(effect.actor_id, effect.incarnation, effect.graceful, effect.reason)
                self._send(effect.node_id, "StopActor", stop)
            elif isinstance(effect, actor_events.Publish):
                if effect.info.state == ACTOR_DEAD:
                    self._world.note_actor_dead(effect.info.actor_id)
                for node_id in effect.nodes:
                    self._send(node_id, "ActorChanged", nm.ActorChanged(effect.info))

    def _send(self, node_id: bytes, method: str, request: Any, answered: Callable[..., None] | None = None) -> None:
        outbox = self._outboxes.get(node_id)
        if outbox is None:
            return
        if answered is None:
            outbox.send(method, request)
        else:
            outbox.send(method, request, lambda reply: answered(node_id, request, reply))

    def _placed(self, node_id: bytes, request: nm.PlaceActor, reply: nm.PlaceActorReply) -> None:
        event = actor_events.PlacementAnswered(
            request.spec.actor_id, request.incarnation, node_id, reply.accepted, reply.reason
        )
        self._actors_hear(event)

    # Time

    def _arm(self, name: str, deadline_ms: int | None, elapsed: Callable[[], Any]) -> None:
        timer = self._timers.pop(name, None)
        if timer is not None:
            timer.cancel()
        if deadline_ms is not None:
            self._timers[name] = self._world.timeline.at((deadline_ms - self.clock_ahead_ms) * 1000, elapsed)
