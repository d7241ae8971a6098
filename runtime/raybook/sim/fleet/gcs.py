"""Fleet GCS: the shipped node, actor and group tables and resource view, with a store that outlives a crash.

As ``sim/gcs``, with each decision measured. Decides nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import msgspec

from raybook.base.facts import ACTOR_ALIVE, ACTOR_DEAD, GROUP_CREATED, GROUP_REMOVED
from raybook.base.resources import fits
from raybook.base.specs import ActorSpec, Bundle, PlacementGroupSpec
from raybook.core.cluster import actor_events, node_table
from raybook.core.cluster import placement_group_events as group_events
from raybook.core.cluster.actor_record import ActorRecord
from raybook.core.cluster.actor_table import ActorTable
from raybook.core.cluster.node_feed import NodeFeed
from raybook.core.cluster.node_table import NodeTable
from raybook.core.cluster.placement_groups import GroupRecord, PlacementGroupTable
from raybook.core.cluster.resource_view import ResourceView
from raybook.core.scheduling.bundles import STRICT_SPREAD, Placing, place_bundles
from raybook.core.scheduling.policy import Choice, choose_among
from raybook.protocol.messages import gcs as gm
from raybook.protocol.messages import node as nm
from raybook.sim.calls import Away, Outbox, Refusal
from raybook.sim.checkers.violation import Violation
from raybook.sim.timeline import Timer

if TYPE_CHECKING:
    from raybook.sim.fleet.world import Fleet

_encode, _decode = msgspec.msgpack.encode, msgspec.msgpack.decode
PERIOD_MS, TIMEOUT_MS = 1_000, 10_000


class FleetGcs:
    """One cluster's control plane."""

    def __init__(self, fleet: Fleet) -> None:
        self.life = 0
        self.is_up = False
        self._fleet = fleet
        self._rows: dict[str, dict[bytes, bytes]] = {"node": {}, "actor": {}, "group": {}}
        self._outboxes: dict[bytes, Outbox] = {}
        self._timers: dict[str, Timer] = {}
        self._methods: dict[str, Callable[[Any], Any]] = {
            "RegisterNode": self._register_node,
            "ReportNode": self._report_node,
            "ActorStateReport": lambda r: self.actors_hear(actor_events.StateReported(r)),
        }

    # Life

    def start(self) -> None:
        """Come up, with what the store holds."""
        self.life += 1
        self.is_up = True
        self.view = ResourceView()
        self.nodes = NodeTable(PERIOD_MS, TIMEOUT_MS)
        self.actors = ActorTable(self._choose)
        self.groups = PlacementGroupTable(self._place, fits_on=self._fits_on)
        self.feed = NodeFeed()
        self._requests = 0
        self._was_refused = False
        self._unconfirmed: dict[bytes, None] = {}
        rows, now_ms = self._rows, self._fleet.timeline.now_ms
        self.actors.load([_decode(row, type=ActorRecord) for row in rows["actor"].values()])
        called_off = self.groups.load([_decode(row, type=GroupRecord) for row in rows["group"].values()], now_ms)
        for row in list(rows["node"].values()):
            info = _decode(row, type=gm.NodeInfo)
            self._unconfirmed[info.node_id] = None
            self._nodes_hear(node_table.NodeRegistered(info))
        self._act_on_groups(called_off)
        self._act_on_actors(self.actors.resume(now_ms))

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
        return self._methods[method](request)

    # Nodes

    def _register_node(self, request: gm.RegisterNode) -> None:
        self._unconfirmed.pop(request.node.node_id, None)
        self._nodes_hear(node_table.NodeRegistered(request.node))

    def _report_node(self, request: gm.ReportNode) -> None:
        node_id = request.node_id
        if not self.nodes.is_alive(node_id):
            raise Refusal("UnknownNode", "register first")
        self._fleet.meter.run("feed", self.feed.reported, node_id, request.resources_available)
        has_grown = self._fleet.meter.run("report", self.view.report, node_id, request.resources_available)
        self._nodes_hear(node_table.NodeHeard(node_id))
        if node_id in self._unconfirmed:
            raise Refusal("UnknownNode", "register again")
        self._room_changed(node_id, has_grown)

    def _nodes_hear(self, *events: Any) -> None:
        fleet = self._fleet
        for effect in fleet.meter.run("health", self.nodes.handle, events, fleet.timeline.now_ms):
            if isinstance(effect, node_table.AnnounceJoined):
                self._node_joined(effect.node)
            elif isinstance(effect, node_table.AnnounceReachable):
                outbox = self._outboxes.get(effect.node_id)
                if outbox is not None:
                    outbox.resume()
            elif isinstance(effect, node_table.Probe):
                fleet.timeline.after(2 * fleet.latency_us(), self._probed, effect.node_id, self.life)
            elif isinstance(effect, node_table.AnnounceDead):
                self._node_died(effect.node_id, effect.reason)
        self._arm("nodes", self.nodes.next_deadline_ms(), self._nodes_hear)

    def _probed(self, node_id: bytes, life: int) -> None:
        if life == self.life and node_id in self._fleet.nodes:
            self._nodes_hear(node_table.NodeHeard(node_id))

    def _node_joined(self, node: gm.NodeInfo) -> None:
        node_id, fleet = node.node_id, self._fleet
        if node_id not in self._outboxes:
            self._outboxes[node_id] = Outbox(
                fleet.timeline, fleet.ever[node_id], fleet.latency_us,
                unreachable=lambda: self._nodes_hear(node_table.NodeUnreachable(node_id)),
            )  # fmt: skip
        self.view.add(node_id, node.resources_total, node.resources_available, node.labels)
        self.feed.joined(node_id, node.resources_available)
        self._rows["node"][node_id] = _encode(node)
        self.actors_hear(actor_events.NodeJoined(node_id))
        self._room_changed(node_id, True)

    def _node_died(self, node_id: bytes, reason: str) -> None:
        if node_id in self._fleet.nodes:
            raise Violation("liveness", f"the GCS took the living node {node_id!r} for dead: {reason}", node_id)
        outbox = self._outboxes.pop(node_id, None)
        if outbox is not None:
            outbox.close()
        self.view.remove(node_id)
        self.feed.died(node_id)
        self._rows["node"].pop(node_id, None)
        self.groups_hear(group_events.GroupNodeLost(node_id, reason))
        self.actors_hear(actor_events.NodeLost(node_id, reason))

    def watch(self, epoch: bytes, since: int) -> gm.NodesDelta:
        """What a raylet is told that looks at the nodes and what they have free."""
        mine = b"%08d" % self.life
        since = since if epoch == mine else 0
        changes = self._fleet.meter.run("tell", self.feed.since, since, True)
        if changes is None:
            return gm.NodesDelta(mine, since, self.feed.version)
        rows = []
        for node_id in changes.members:
            info = self.nodes.get(node_id)
            if info is not None:
                rows.append(msgspec.structs.replace(info, resources_available=self.feed.available(node_id)))
        amounts = [gm.FreeAmounts(node_id, self.feed.available(node_id)) for node_id in changes.amounts]
        return gm.NodesDelta(mine, since, changes.version, rows, amounts, changes.reset, changes.newest)

    # Actors

    def create_actor(self, spec: ActorSpec) -> None:
        """Somebody wants one."""
        self._requests += 1
        self.actors_hear(actor_events.CreationRequested(self._requests, spec))

    def kill_actor(self, actor_id: bytes) -> None:
        """Nobody wants it any more."""
        self.actors_hear(actor_events.KillRequested(actor_id))

    def _choose(self, spec: ActorSpec, refused: Mapping[bytes, str]) -> Choice:
        choice: Choice = self._fleet.meter.run(
            "choose", choose_among, spec, self.view, self._fleet.rng.randrange, refused
        )
        if choice.node_id is not None:
            self.view.reserve(choice.node_id, spec.placement)
        return choice

    def actors_hear(self, *events: Any) -> None:
        """Tell the table."""
        fleet = self._fleet
        effects = fleet.meter.run("actor", self.actors.handle, events, fleet.timeline.now_ms)
        self._act_on_actors(effects)
        self._arm("actors", self.actors.next_deadline_ms(), self.actors_hear)

    def _act_on_actors(self, effects: list[Any]) -> None:
        rows = self._rows["actor"]
        for effect in effects:
            if isinstance(effect, actor_events.PersistActor):
                rows[effect.actor_id] = _encode(self.actors.record(effect.actor_id))
            elif isinstance(effect, actor_events.ForgetActor):
                rows.pop(effect.actor_id, None)
        for effect in effects:
            if isinstance(effect, actor_events.Place):
                place = nm.PlaceActor(effect.spec, effect.incarnation, effect.restarts)
                self._send(effect.node_id, "PlaceActor", place)
            elif isinstance(effect, actor_events.StopOn):
                stop = nm.StopActor(effect.actor_id, effect.incarnation, effect.graceful, effect.reason)
                self._send(effect.node_id, "StopActor", stop)
            elif isinstance(effect, actor_events.Publish) and effect.info.state in (ACTOR_ALIVE, ACTOR_DEAD):
                self._fleet.settled(effect.info.actor_id)

    # Groups

    def create_group(self, spec: PlacementGroupSpec) -> None:
        """Somebody wants one."""
        self._requests += 1
        self.groups_hear(group_events.GroupRequested(self._requests, spec))

    def remove_group(self, group_id: bytes) -> None:
        """Nobody wants it any more."""
        self.groups_hear(group_events.RemovalRequested(group_id))

    def _place(self, spec: PlacementGroupSpec, bundles: Mapping[int, Bundle], taken: Mapping[int, bytes]) -> Placing:
        placing: Placing = self._fleet.meter.run("place", place_bundles, bundles, spec.strategy, self.view, taken)
        for index, node_id in (placing.plan or {}).items():
            self.view.reserve(node_id, bundles[index].shape)
        return placing

    def _room_changed(self, node_id: bytes, has_grown: bool) -> None:
        if (has_grown or self._was_refused or self.groups.is_behind()) and self.groups.has_waiting():
            event = group_events.RoomChanged() if self._was_refused else group_events.RoomChanged(node_id)
            self._was_refused = False
            self.groups_hear(event)

    def _fits_on(self, bundle: Bundle, node_id: bytes) -> bool:
        node = self.view.get(node_id)
        return node is not None and fits(bundle.shape, node.available)

    def groups_hear(self, *events: Any) -> None:
        """Tell the table."""
        fleet = self._fleet
        kind = "retry" if type(events[0]) is group_events.RoomChanged else "group"
        self._act_on_groups(fleet.meter.run(kind, self.groups.handle, events, fleet.timeline.now_ms))

    def _act_on_groups(self, effects: list[Any]) -> None:
        rows = self._rows["group"]
        for effect in effects:
            if isinstance(effect, group_events.PersistGroup):
                rows[effect.group_id] = _encode(self.groups.record(effect.group_id))
            elif isinstance(effect, group_events.ForgetGroup):
                rows.pop(effect.group_id, None)
        for effect in effects:
            if isinstance(effect, group_events.PrepareOn):
                bundles = [nm.PlacedBundle(index, dict(shape)) for index, shape in effect.bundles]
                prepare = nm.PrepareBundles(effect.group_id, effect.attempt, bundles, effect.commit)
                self._send(effect.node_id, "PrepareBundles", prepare)
            elif isinstance(effect, group_events.CommitOn):
                self._send(effect.node_id, "CommitBundles", nm.CommitBundles(effect.group_id, effect.attempt))
            elif isinstance(effect, group_events.ReturnOn):
                indices = [index for index, _ in effect.bundles]
                back = nm.ReturnBundles(effect.group_id, effect.attempt, indices, effect.removed, effect.reason)
                self._send(effect.node_id, "ReturnBundles", back)
            elif isinstance(effect, group_events.PublishGroup) and effect.turned:
                self._turned(effect.group_id)

    def _turned(self, group_id: bytes) -> None:
        info = self.groups.info(group_id)
        if info is None:
            return
        if info.state == GROUP_CREATED and info.spec.strategy == STRICT_SPREAD:
            if len(set(info.nodes)) < len(info.nodes):
                raise Violation("groups", "a STRICT_SPREAD group shares a node", group_id)
        if info.state in (GROUP_CREATED, GROUP_REMOVED):
            self._fleet.settled(group_id)

    # Nodes are told

    def _send(self, node_id: bytes, method: str, request: Any) -> None:
        outbox = self._outboxes.get(node_id)
        if outbox is not None:
            outbox.send(method, request, lambda reply: self._answered(node_id, request, reply))

    def _answered(self, node_id: bytes, request: Any, reply: Any) -> None:
        if isinstance(request, nm.PlaceActor):
            event = actor_events.PlacementAnswered(
                request.spec.actor_id, request.incarnation, node_id, reply.accepted, reply.reason
            )
            self.actors_hear(event)
        elif isinstance(request, nm.PrepareBundles):
            self._was_refused = self._was_refused or not reply.accepted
            answer = group_events.PrepareAnswered(
                request.group_id, request.attempt, node_id, reply.accepted, reply.reason
            )
            self.groups_hear(answer)

    def _arm(self, name: str, deadline_ms: int | None, elapsed: Callable[[], None]) -> None:
        timer = self._timers.pop(name, None)
        if timer is not None:
            timer.cancel()
        if deadline_ms is not None:
            self._timers[name] = self._fleet.timeline.at(deadline_ms * 1000, elapsed)
