"""GCS link: a simulated raylet's side of the GCS: registration, reports, relayed calls, watched actors.

As ``raylet/gcs_link``: what must keep its order goes through an outbox, reports and questions do not, a GCS that came back
without knowing this node is told again, and one that holds it for dead ends it. Decides nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import msgspec

from raybook.protocol.messages import gcs as gm
from raybook.protocol.messages import raylet as rm
from raybook.sim.calls import RETRY_MS, Outbox, Refusal, ask
from raybook.sim.network import GCS_PLACE

if TYPE_CHECKING:
    from raybook.sim.node import Client, Node

REPORT_INTERVAL_MS = 10
KEEPS_ORDER = frozenset(
    {"CreateActor", "KillActor", "CreatePlacementGroup", "RemovePlacementGroup", "GetPlacementGroup"}
)


class GcsLink:
    """One per node."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._world = node.world
        self._timeline = node.world.timeline
        self._latest: dict[bytes, gm.ActorInfo] = {}
        self._is_dirty = False
        self._is_reporting = False
        self._is_closed = False
        self._outbox = Outbox(self._timeline, node.world.gcs, node.world.network.latency_us, self._reaches)

    def _reaches(self) -> bool:
        return not self._world.network.is_cut(self._node.node_id, GCS_PLACE)

    def start(self) -> None:
        """Make the node known, and keep it so."""
        self._outbox.send("RegisterNode", self._registration(), self._registered)
        self._heartbeat()

    def close(self) -> None:
        """The node is gone."""
        self._is_closed = True
        self._outbox.close()

    # Calls

    def tell(self, method: str, request: Any) -> None:
        """In order, at least once."""
        self._outbox.send(method, request)

    def ask(self, method: str, request: Any, answered: Callable[[Any], None]) -> None:
        """A question of this node's own. answered: with None when the GCS is away."""

        def back(reply: Any) -> None:
            if not self._is_closed:
                answered(reply)

        ask(self._timeline, self._world.gcs, self._world.network.latency_us, self._reaches, method, request, back)

    def relay(self, client: Client, message: rm.GcsCall) -> None:
        """A client's call."""
        kind: Any = gm.METHODS[message.method][0]
        request = msgspec.msgpack.decode(message.request, type=kind)

        def answered(reply: Any) -> None:
            client.port.send(_answer(message, reply))

        if message.method in KEEPS_ORDER:
            self._outbox.send(message.method, request, answered)
        else:
            self._relay(message.method, request, answered)

    def _relay(self, method: str, request: Any, answered: Callable[[Any], None]) -> None:
        """Until there is an answer."""

        def back(reply: Any) -> None:
            if reply is None:
                self._timeline.after(RETRY_MS * 1000, self._relay, method, request, answered)
            else:
                answered(reply)

        if not self._is_closed:
            self.ask(method, request, back)

    # Actors

    def watch(self, client: Client, message: rm.WatchActor) -> None:
        """A client wants an actor's states from now on, or no more."""
        actor_id = message.actor_id
        if message.watch:
            client.watched[actor_id] = None
            request = gm.WatchActors(self._node.node_id, [actor_id])
            self._outbox.send("WatchActors", request, lambda reply: self._watched(client, reply))
        elif client.watched.pop(actor_id, 0) is None:
            self.unwatch([actor_id])

    def unwatch(self, actor_ids: list[bytes]) -> None:
        """Somebody looks away."""
        clients = self._node.clients.values()
        gone = [key for key in actor_ids if not any(key in other.watched for other in clients)]
        for actor_id in gone:
            self._latest.pop(actor_id, None)
        if gone:
            self.tell("WatchActors", gm.WatchActors(self._node.node_id, gone, watch=False))

    def _watched(self, client: Client, reply: gm.ActorList) -> None:
        for info in reply.actors:
            client.port.send(_update_of(self._latest.get(info.actor_id, info)))

    def actor_changed(self, info: gm.ActorInfo) -> None:
        """The GCS pushed a row."""
        for client in self._node.clients.values():
            if info.actor_id in client.watched:
                self._latest[info.actor_id] = info
                client.port.send(_update_of(info))

    # Registration and reports

    def _registration(self) -> gm.RegisterNode:
        node = self._node
        available = node.leases.available_for_reports()
        return gm.RegisterNode(
            gm.NodeInfo(
                node.node_id, f"tcp:{node.name}", resources_total=node.resources, resources_available=available,
                labels=node.labels, gateway_address=node.gateway, draining=node.drain.why,
            )
        )  # fmt: skip

    def _registered(self, reply: Any) -> None:
        if isinstance(reply, Refusal):
            # Its actors run elsewhere by now: going on would mean two of each.
            self._node.stop(f"the GCS refuses it: {reply.text}")
            return
        watched = list({key: None for client in self._node.clients.values() for key in client.watched})
        if reply is not None and watched:
            self.ask("WatchActors", gm.WatchActors(self._node.node_id, watched), self._rewatched)

    def _registered_again(self, reply: Any) -> None:
        self._registered(reply)
        if reply is not None and not isinstance(reply, Refusal):
            self._node.followers.look_at_bundles()

    def _rewatched(self, reply: Any) -> None:
        for info in reply.actors if reply is not None else ():
            self.actor_changed(info)

    def resources_changed(self) -> None:
        """Report soon."""
        self._is_dirty = True
        if not self._is_reporting:
            self._is_reporting = True
            self._timeline.after(REPORT_INTERVAL_MS * 1000, self._report)

    def _heartbeat(self) -> None:
        if not self._is_closed:
            self.resources_changed()
            self._timeline.after(self._world.config.health_check_period_ms * 1000, self._heartbeat)

    def _report(self) -> None:
        if self._is_closed:
            return
        self._is_dirty = False
        request = gm.ReportNode(self._node.node_id, self._node.leases.available_for_reports())
        self.ask("ReportNode", request, self._reported)

    def _reported(self, reply: Any) -> None:
        self._is_reporting = False
        if isinstance(reply, Refusal) and reply.code == "UnknownNode":
            self.ask("RegisterNode", self._registration(), self._registered_again)
        if self._is_dirty:
            self.resources_changed()


def _answer(message: rm.GcsCall, reply: Any) -> rm.GcsReply:
    if isinstance(reply, Refusal):
        return rm.GcsReply(message.call_id, error_code=reply.code, error_text=reply.text)
    return rm.GcsReply(message.call_id, msgspec.msgpack.encode(reply))


def _update_of(info: gm.ActorInfo) -> rm.ActorUpdate:
    return rm.ActorUpdate(
        info.actor_id, info.state, info.endpoint, info.incarnation, info.restarts_left, info.death,
        info.death_payload, info.pid, info.death_code,
    )  # fmt: skip
