"""Followers: what requests of this node wait for elsewhere, asked of the GCS until it is known.

    a placement group without a bundle here   until a bundle comes, or the group is removed and its tasks fail
    a node that a task must run on            once: a task for a node that is dead fails, and says so
And, when the GCS was started anew, of the groups that have bundles here: whether they still are.
Carries questions and answers; what they mean, the lease manager decides.
"""

from __future__ import annotations

import asyncio
from typing import Any

from raybook.base.facts import GROUP_CREATED, GROUP_REMOVED
from raybook.base.strategies import NodeTarget
from raybook.core.node import lease_events as le
from raybook.core.node.bundle_keeper import outdated
from raybook.io.channel import RemoteError
from raybook.protocol.messages.gcs import GetPlacementGroup, ListNodes, WaitPlacementGroup
from raybook.raylet.abroad import Abroad
from raybook.raylet.effects import NodeDecider
from raybook.raylet.gcs_link import RETRY_MS, GcsLink

WAIT_MS = 10_000
"""A question about a group is answered at its next change, or after this long; half of what a gRPC call may take."""
ELSEWHERE_S = 1.0
"""A group that lies on other nodes is looked at this often, so that its removal is noticed."""


class Followers:
    """``group`` and ``node`` may be called as often as you like: one question about each is under way at a time."""

    def __init__(self, node_id: bytes, decider: NodeDecider, gcs: GcsLink, abroad: Abroad | None = None) -> None:
        self._node_id = node_id
        self._decider = decider
        self._gcs = gcs
        self._abroad = abroad
        self._groups: dict[bytes, None] = {}

    def group(self, group_id: bytes) -> None:
        """Something waits for this group."""
        if group_id not in self._groups:
            self._groups[group_id] = None
            self._gcs.spawn(self._follow(group_id))

    def node(self, demand: le.DemandSet, target: NodeTarget) -> None:
        """A client's tasks must run on another node."""
        self._gcs.spawn(self._look_at_node(demand, target))

    def look_at_bundles(self) -> None:
        """The GCS was started anew: what it knows of the groups that have bundles here."""
        self._gcs.spawn(self._look_at_bundles())

    async def _look_at_bundles(self) -> None:
        for group_id, held in self._decider.leases.pools.groups().items():
            reply = await self._ask("GetPlacementGroup", GetPlacementGroup(group_id))
            event = None if reply is None else outdated(group_id, held, self._node_id, reply.group)
            if event is not None:
                self._decider.lease(event)

    async def _follow(self, group_id: bytes) -> None:
        try:
            while self._decider.leases.reports.waits_for_group(group_id):
                reply = await self._ask("WaitPlacementGroup", WaitPlacementGroup(group_id, WAIT_MS))
                group = reply.group if reply is not None else None
                if group is not None and group.state == GROUP_REMOVED:
                    self._decider.lease(le.GroupRemoved(group_id, group.attempt, group.death))
                    return
                if group is not None and group.state == GROUP_CREATED:
                    if self._abroad is not None:
                        self._abroad.group_placed(group_id, group.nodes)
                    await asyncio.sleep(ELSEWHERE_S)
        finally:
            self._groups.pop(group_id, None)

    async def _look_at_node(self, demand: le.DemandSet, target: NodeTarget) -> None:
        reply = await self._ask("ListNodes", ListNodes())
        alive = [node.node_id for node in reply.nodes if node.alive] if reply is not None else [target.node_id]
        if target.node_id not in alive:
            text = (
                f"`{demand.name}` must run on node {target.node_id.hex()}, which is dead or was never in this cluster. "
                "It was not started; name a living node (raybook.nodes()), or pass soft=True."
            )
            self._decider.lease(le.DemandImpossible(demand.client, demand.class_key, "TaskUnschedulableError", text))

    async def _ask(self, method: str, request: Any) -> Any:
        """The answer; None when there is none now."""
        try:
            return await self._gcs.call(method, request)
        except (RemoteError, ConnectionError):
            await asyncio.sleep(RETRY_MS / 1000)
            return None
