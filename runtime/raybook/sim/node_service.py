"""Node service: what the GCS asks of a simulated node, and what requests of the node wait for at the GCS.

As ``raylet/node_service`` and ``raylet/followers``: each method may be called twice with the same request. Decides nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from raybook.base.facts import GROUP_CREATED, GROUP_REMOVED
from raybook.base.resources import missing
from raybook.base.strategies import group_target
from raybook.core.node import lease_events as le
from raybook.core.node.bundle_keeper import outdated
from raybook.protocol.messages import gcs as gm
from raybook.protocol.messages import node as nm
from raybook.sim.calls import Away, Refusal
from raybook.sim.drains import CALLS_ON_THEIR_WAY_US

if TYPE_CHECKING:
    from raybook.sim.node import Node

FOLLOW_US = 50_000
ELSEWHERE_US = 1_000_000
"""A group that lies on other nodes is looked at this often, as in ``raylet/followers``."""


class NodeService:
    """``life`` changes when the node ends."""

    def __init__(self, node: Node) -> None:
        self.life = 0
        self._node = node
        self._methods: dict[str, Callable[[Any], Any]] = {
            "PlaceActor": self._place_actor,
            "StopActor": self._stop_actor,
            "PrepareBundles": self._prepare_bundles,
            "CommitBundles": self._commit_bundles,
            "ReturnBundles": self._return_bundles,
            "ActorChanged": self._actor_changed,
            "DrainRaylet": lambda request: self._node.drain.requested(request),
        }

    def call(self, method: str, request: Any) -> Any:
        """Answer one request. Away."""
        if not self._node.is_alive:
            raise Away
        return self._methods[method](request)

    def _place_actor(self, request: nm.PlaceActor) -> nm.PlaceActorReply:
        node = self._node
        if node.drain.why:
            return nm.PlaceActorReply(False, f"The node drains: {node.drain.why}.")
        wanted = le.wanted_by(request.spec)
        if node.leases.pools.missing_for_ever(wanted, group_target(request.spec.strategy)):
            return nm.PlaceActorReply(False, f"it lacks {missing(wanted, node.resources)}")
        node.tell(node.leases, le.ActorRequested(request.spec, request.incarnation, request.restarts))
        return nm.PlaceActorReply(True)

    def _stop_actor(self, request: nm.StopActor) -> gm.Empty:
        stop = le.ActorCancelled(request.actor_id, request.incarnation, request.graceful, request.reason)
        node = self._node
        delay_us = CALLS_ON_THEIR_WAY_US if request.graceful and node.drain.why else 0
        if delay_us:
            node.world.timeline.after(delay_us, node.tell, node.leases, stop)
        else:
            node.tell(node.leases, stop)
        return gm.Empty()

    def _prepare_bundles(self, request: nm.PrepareBundles) -> nm.PrepareBundlesReply:
        node = self._node
        if node.drain.why:
            return nm.PrepareBundlesReply(False, f"The node drains: {node.drain.why}.")
        bundles = [(bundle.index, bundle.shape) for bundle in request.bundles]
        event = le.BundlesRequested(request.group_id, request.attempt, bundles, request.commit)
        node.tell(node.leases, event)
        if not event.why_refused:
            node.world.check.groups.prepared(node, request)
        return nm.PrepareBundlesReply(not event.why_refused, event.why_refused)

    def _commit_bundles(self, request: nm.CommitBundles) -> gm.Empty:
        self._node.tell(self._node.leases, le.BundlesCommitted(request.group_id, request.attempt))
        self._node.world.check.groups.committed(self._node, request)
        return gm.Empty()

    def _return_bundles(self, request: nm.ReturnBundles) -> nm.ReturnBundlesReply:
        node = self._node
        node.world.check.groups.returned(node, request)
        if request.removed:
            node.tell(node.leases, le.GroupRemoved(request.group_id, request.attempt, request.reason))
        else:
            moved = le.BundlesReturned(request.group_id, request.attempt, request.indices, "Its bundle moved away.")
            node.tell(node.leases, moved)
        return nm.ReturnBundlesReply(not node.leases.pools.is_held(request.group_id))

    def _actor_changed(self, request: nm.ActorChanged) -> gm.Empty:
        self._node.gcs.actor_changed(request.actor)
        return gm.Empty()


class Followers:
    """What becomes of placement groups that something here waits for."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._groups: dict[bytes, None] = {}

    def group(self, group_id: bytes) -> None:
        """Something waits for this group."""
        if group_id not in self._groups:
            self._groups[group_id] = None
            self._node.world.timeline.after(0, self._look, group_id)

    def look_at_bundles(self) -> None:
        """The GCS was started anew."""
        node = self._node
        for group_id, held in node.leases.pools.groups().items():
            node.gcs.ask("GetPlacementGroup", gm.GetPlacementGroup(group_id), self._told(group_id, held))

    def _told(self, group_id: bytes, held: list[int]) -> Callable[[Any], None]:
        node = self._node

        def told(reply: Any) -> None:
            event = None if reply is None else outdated(group_id, held, node.node_id, reply.group)
            if event is not None:
                node.world.check.groups.outdated(node, event)
                node.tell(node.leases, event)

        return told

    def _look(self, group_id: bytes) -> None:
        node = self._node
        if not node.is_alive or not node.leases.reports.waits_for_group(group_id):
            self._groups.pop(group_id, None)
            return
        node.gcs.ask("WaitPlacementGroup", gm.WaitPlacementGroup(group_id), lambda reply: self._heard(group_id, reply))

    def _heard(self, group_id: bytes, reply: Any) -> None:
        node = self._node
        group = reply.group if reply is not None and not isinstance(reply, Refusal) else None
        delay_us = FOLLOW_US
        if group is not None and group.state == GROUP_REMOVED:
            node.tell(node.leases, le.GroupRemoved(group_id, group.attempt, group.death))
        elif group is not None and group.state == GROUP_CREATED:
            delay_us = ELSEWHERE_US
            if node.abroad is not None:
                node.abroad.group_placed(group_id, group.nodes)
        node.world.timeline.after(delay_us, self._look, group_id)
