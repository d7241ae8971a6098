"""Abroad: a simulated raylet among others: its view of the nodes, its connections to their raylets, what its clients ask of
them, and what it does for theirs.

As ``raylet/neighbours`` and ``raylet/abroad``, around the shipped ``core/node/spillover``. Bytes of objects are the business
of ``transfers``. Decides nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from raybook.core.cluster.resource_view import ResourceView
from raybook.core.node import lease_events as le
from raybook.core.node import spillover as so
from raybook.core.node.translation import LEASE_EVENTS
from raybook.protocol.messages import raylet as rm
from raybook.protocol.messages import store as sm
from raybook.protocol.messages.gcs import ListNodes, NodeInfo
from raybook.protocol.messages.neighbours import ClientEnded, FromClient, Greet, ToClient
from raybook.sim.calls import Refusal
from raybook.sim.network import TO_NEIGHBOUR, Port
from raybook.sim.timeline import Timer
from raybook.sim.transfers import Transfers

if TYPE_CHECKING:
    from raybook.sim.node import Client, Node

LOOK_US = 1_000_000
LOOK_SOON_US = 50_000
"""As in ``raylet/neighbours``."""
LEASE_PREFIX_BYTES = 3
LEASE_COUNT_BITS = 38
"""As in ``raylet/abroad``."""
FOR_STORES = (sm.FreeRegions, sm.SpillObjects, sm.SpillDone, sm.DeleteSpilled)


class Abroad:
    """One for each node of a cluster of several."""

    def __init__(self, node: Node) -> None:
        self.node = node
        self.name = node.name
        self.place = node.node_id
        self.view = ResourceView()
        self.machine = so.Spillover(node.node_id, self.view, node.leases.available_for_reports)
        self.guests: dict[bytes, bytes] = {}
        """Clients of other nodes that this one serves → their node."""
        self.transfers = Transfers(node, self)
        self._known: dict[bytes, None] = {}
        self._dead: dict[bytes, str] = {}
        self._connections: dict[bytes, Port] = {}
        self._names: dict[Port, bytes] = {}
        self._leases: dict[int, tuple[bytes, bytes]] = {}
        self._told: dict[bytes, dict[bytes, bool]] = {}
        self._encode = msgspec.msgpack.Encoder().encode
        self._decode = msgspec.msgpack.Decoder(rm.RayletMessage).decode
        self._pause_us = LOOK_US
        self._next_look: Timer | None = None
        self._is_looking = False
        self._is_closed = False
        node.leases.last_lease_id = int.from_bytes(node.node_id[:LEASE_PREFIX_BYTES], "big") << LEASE_COUNT_BITS

    def close(self) -> None:
        """The node is gone."""
        self._is_closed = True
        for port in list(self._names):
            port.close()

    # The view

    def start(self) -> None:
        """Look at the nodes from now on."""
        self._is_looking = True
        self.node.gcs.ask("ListNodes", ListNodes(), self._looked)

    def look_soon(self) -> None:
        """Somebody waits: look at the nodes now."""
        self._pause_us = LOOK_SOON_US
        if not self._is_looking and not self._is_closed:
            self._look_after(LOOK_SOON_US // 10)

    def _look_after(self, delay_us: int) -> None:
        if self._next_look is not None:
            self._next_look.cancel()
        self._next_look = self.node.world.timeline.after(delay_us, self.start)

    def _looked(self, reply: Any) -> None:
        if self._is_closed:
            return
        self._is_looking = False
        if reply is not None and not isinstance(reply, Refusal):
            self._take(reply.nodes)
        self._look_after(self._pause_us)
        self._pause_us = min(self._pause_us * 6 // 5, LOOK_US // 4) if self.machine.is_waiting() else LOOK_US

    def _take(self, nodes: list[NodeInfo]) -> None:
        for info in nodes:
            if not info.alive:
                self._has_died(info.node_id, info.death_reason)
            elif info.node_id not in self._known:
                self._known[info.node_id] = None
                self.view.add(info.node_id, info.resources_total, info.resources_available, info.labels)
            else:
                self.view.report(info.node_id, info.resources_available)
        self.decide(so.ViewChanged())

    def knows(self, node_id: bytes) -> bool:
        """Whether the node is alive, as far as one knows here."""
        return node_id in self._known

    def is_dead(self, node_id: bytes) -> bool:
        """Whether it is known to be dead."""
        return node_id in self._dead

    def _has_died(self, node_id: bytes, reason: str) -> None:
        if node_id in self._dead:
            return
        self._dead[node_id] = reason
        self.view.remove(node_id)
        self._known.pop(node_id, None)
        self._connections.pop(node_id, None)
        for port in [port for port, name in self._names.items() if name == node_id]:
            del self._names[port]
            port.close()
        text = f"Its node {node_id.hex()} died: {reason}"
        for lease_id, (node, client_id) in list(self._leases.items()):
            if node == node_id:
                del self._leases[lease_id]
                self.node.send(client_id, rm.LeaseLost(lease_id, died=True, reason=text))
        for guest in [guest for guest, home in self.guests.items() if home == node_id]:
            self._guest_gone(guest)
        self.decide(so.ViewChanged())
        for client in self.node.clients.values():
            client.port.send(rm.NodeGone(node_id, reason))

    # Connections

    def send(self, node_id: bytes, message: Any) -> bool:
        """In order. False when the node is not known or cannot be reached."""
        port = self._connections.get(node_id)
        if port is None or port.is_closed:
            other = self.node.world.nodes.get(node_id)
            if node_id not in self._known or other is None or other.abroad is None:
                return False
            port, far = self.node.world.network.connect(self, other.abroad, TO_NEIGHBOUR)
            self._connections[node_id] = port
            self._names[port] = node_id
            other.abroad.connected(far)
            port.send(Greet(self.place))
        port.send(message)
        return True

    def connected(self, port: Port) -> None:
        """Another raylet called; which one comes with its greeting."""
        self._names[port] = b""

    def arrived(self, port: Port, message: Any) -> None:
        """The network brings a message."""
        if self._is_closed or port.is_closed or port not in self._names:
            return
        if isinstance(message, Greet) and message.node_id in self._dead:
            # Whoever is held for dead is not listened to: what it says would never be taken back.
            self._names.pop(port)
            port.close()
            return
        if isinstance(message, Greet):
            self._names[port] = message.node_id
            self._connections.setdefault(message.node_id, port)
            return
        node_id = self._names[port]
        if isinstance(message, ToClient):
            self._from_other_node(node_id, message.client_id, self._decode(message.body))
        elif isinstance(message, FromClient):
            self.guests[message.client.client_id] = node_id
            self._from_guest(message.client.client_id, self._decode(message.body))
        elif isinstance(message, ClientEnded):
            self._guest_gone(message.client_id)

    def ended(self, port: Port) -> None:
        """The network brings the end of a connection."""
        node_id = self._names.pop(port, b"")
        port.close()
        if self._connections.get(node_id) is port:
            del self._connections[node_id]
            self.look_soon()

    # Home side

    def set_demand(self, client: Client, message: rm.SetDemand) -> None:
        """A client of ours could use so many leases."""
        what, count = message.scheduling_class, message.count
        self.decide(so.DemandStated(client.process.client_id, message.class_key, what, count, message.name))
        if message.count:
            self.look_soon()

    def passes_on(self, client: Client, message: Any) -> bool:
        """True when a client's message was for another node, or for what moves between nodes."""
        client_id = client.process.client_id
        if isinstance(message, rm.ReturnLease):
            node_id, _ = self._leases.pop(message.lease_id, (b"", b""))
        elif isinstance(message, FOR_STORES):
            node_id = message.node_id if message.node_id != self.place else b""
        elif isinstance(message, (rm.FetchObject, rm.DropCopies)):
            self.transfers.heard(client_id, message)
            return True
        else:
            return False
        if node_id:
            self._say(node_id, client_id, message)
        return bool(node_id)

    def group_placed(self, group_id: bytes, nodes: list[bytes]) -> None:
        """Where the bundles of a group lie."""
        self.decide(so.GroupPlaced(group_id, nodes))

    def granted(self, client_id: bytes, class_key: int) -> None:
        """A lease of this node was given to somebody."""
        self.decide(so.GrantPassed(client_id, class_key, self.place))

    def client_gone(self, client_id: bytes) -> None:
        """A client of ours is dead: whoever served it shall know."""
        self.transfers.client_gone(client_id)
        self.decide(so.ClientLeft(client_id))
        for lease_id in [lease_id for lease_id, (_, client) in self._leases.items() if client == client_id]:
            del self._leases[lease_id]
        for node_id in self._told.pop(client_id, {}):
            self.send(node_id, ClientEnded(client_id))

    def decide(self, *events: Any) -> None:
        """Tell the machine."""
        if self._is_closed:
            return
        for effect in self.machine.handle(events):
            if isinstance(effect, so.RefuseDemand):
                self.node.send(effect.client, rm.DemandRefused(effect.class_key, effect.code, effect.text))
            elif effect.node_id == self.place:
                demand = le.DemandSet(effect.client, effect.class_key, effect.what, effect.count, effect.name)
                self.node.tell(self.node.leases, demand)
            else:
                message = rm.SetDemand(effect.class_key, effect.what, effect.count, effect.name)
                if not self._say(effect.node_id, effect.client, message) and effect.count:
                    lost = so.PartUndelivered(effect.client, effect.class_key, effect.node_id)
                    self.node.world.timeline.after(0, self.decide, lost)
        self.machine.check_invariants()

    def _say(self, node_id: bytes, client_id: bytes, message: Any) -> bool:
        client = self.node.clients.get(client_id)
        if client is None:
            return True
        if not self.send(node_id, FromClient(client.endpoint, self._encode(message), client.process.name)):
            return False
        self._told.setdefault(client_id, {})[node_id] = True
        return True

    def _from_other_node(self, node_id: bytes, client_id: bytes, message: Any) -> None:
        if isinstance(message, rm.LeaseGranted):
            self._leases[message.lease_id] = (node_id, client_id)
            self.node.send(client_id, message)
            self.decide(so.GrantPassed(client_id, message.class_key, node_id))
            return
        if isinstance(message, rm.LeaseLost):
            self._leases.pop(message.lease_id, None)
        elif isinstance(message, rm.DemandRefused):
            self.decide(so.DemandEnded(client_id, message.class_key))
        self.node.send(client_id, message)

    # Guest side

    def _from_guest(self, client_id: bytes, message: Any) -> None:
        if isinstance(message, (rm.SetDemand, rm.ReturnLease)):
            self.node.world.check.grants.heard(self.node, client_id, message)
            self.node.tell(self.node.leases, LEASE_EVENTS[type(message)](client_id, message))
        else:
            assert isinstance(message, FOR_STORES), f"a client of another node sent a {type(message).__name__}"
            self.node.store.received(client_id, message)

    def send_guest(self, client_id: bytes, message: Any) -> None:
        """To a client of another node; who is unknown will be heard of as dead."""
        node_id = self.guests.get(client_id)
        if node_id is not None:
            self.send(node_id, ToClient(client_id, self._encode(message)))

    def _guest_gone(self, client_id: bytes) -> None:
        if self.guests.pop(client_id, None) is not None:
            self.node.tell(self.node.leases, le.ClientGone(client_id))
            self.node.store.owner_died(client_id)
