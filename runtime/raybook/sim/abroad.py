"""Abroad: a simulated raylet among others: what its clients ask of other nodes, and what it does for theirs.

As ``raylet/abroad``, around the shipped ``core/node/spillover``. What it knows of the nodes is in ``node_watch``, what it
says to them goes through ``neighbours``, and bytes of objects are the business of ``transfers``. Decides nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from raybook.core.node import lease_events as le
from raybook.core.node import spillover as so
from raybook.core.node.node_view import NodeDied
from raybook.core.node.translation import LEASE_EVENTS
from raybook.protocol.messages import raylet as rm
from raybook.protocol.messages import store as sm
from raybook.protocol.messages.neighbours import ClientEnded, FromClient, Parted, ToClient
from raybook.sim.neighbours import Neighbours
from raybook.sim.node_watch import NodeWatch
from raybook.sim.transfers import Transfers

if TYPE_CHECKING:
    from raybook.sim.node import Client, Node

LEASE_PREFIX_BYTES = 3
LEASE_COUNT_BITS = 38
"""As in ``raylet/abroad``."""
FOR_STORES = (sm.FreeRegions, sm.SpillObjects, sm.SpillDone, sm.DeleteSpilled)


class Abroad:
    """One for each node of a cluster of several."""

    def __init__(self, node: Node) -> None:
        self.node = node
        self.place = node.node_id
        self.watch = NodeWatch(node)
        self.view = self.watch.view
        self.neighbours = Neighbours(node, self.view)
        free_here = node.leases.available_for_reports
        self.machine = so.Spillover(node.node_id, self.view, free_here, self.view.why_absent)
        self.guests: dict[bytes, bytes] = {}
        """Clients of other nodes that this one serves → their node."""
        self.transfers = Transfers(node, self)
        self._leases: dict[int, tuple[bytes, bytes]] = {}
        self._told: dict[bytes, dict[bytes, bool]] = {}
        self._encode = msgspec.msgpack.Encoder().encode
        self._decode = msgspec.msgpack.Decoder(rm.RayletMessage).decode
        self._is_closed = False
        node.leases.last_lease_id = int.from_bytes(node.node_id[:LEASE_PREFIX_BYTES], "big") << LEASE_COUNT_BITS
        self.neighbours.on_message = self._received
        self.neighbours.on_fenced = node.gcs.resources_changed
        self.neighbours.on_cut_off = self._cut_off
        self.neighbours.on_healed = self._healed
        self.watch.is_waiting = self.machine.is_waiting
        self.watch.on_view = lambda: self.decide(so.ViewChanged())
        self.watch.on_dead = self._node_died
        self.watch.on_draining = self._node_drains

    def start(self) -> None:
        """Look at the nodes from now on."""
        self.watch.start()

    def close(self) -> None:
        """The node is gone."""
        self._is_closed = True
        self.neighbours.close()

    def knows(self, node_id: bytes) -> bool:
        """Whether the node is alive, as far as one knows here."""
        return self.view.info(node_id) is not None

    def is_dead(self, node_id: bytes) -> bool:
        """Whether it is known to be dead."""
        return bool(self.view.why_dead(node_id))

    def look_soon(self) -> None:
        """Somebody waits."""
        self.watch.look_soon()

    def send(self, node_id: bytes, message: Any) -> bool:
        """In order and once. False when the node is not known."""
        return self.neighbours.send(node_id, message)

    # Ends and cuts

    def _node_drains(self, node_id: bytes) -> None:
        self.machine.is_draining = self.machine.is_draining or node_id == self.place
        for client in self.node.clients.values():
            client.port.send(rm.NodeDraining(node_id))

    def welcome(self, client: Client) -> None:
        """A new client hears what the others know."""
        for node_id in self.view.draining:
            client.port.send(rm.NodeDraining(node_id))

    def _node_died(self, died: NodeDied) -> None:
        node_id = died.node_id
        if node_id == self.place:
            # That is us. The GCS says so itself when we report, and then this node ends with all it runs.
            self.node.gcs.resources_changed()
            return
        self.neighbours.node_died(node_id)
        self._leases_over(node_id, f"Its node {node_id.hex()} died: {died.reason}")
        for guest in self._guests_of(node_id):
            self._guest_gone(guest)
        self.decide(so.ViewChanged())
        for client in self.node.clients.values():
            client.port.send(rm.NodeGone(node_id, died.reason, node_id.hex()))

    def _cut_off(self, node_id: bytes, silence_ms: int) -> None:
        self.node.world.ledger.count("cut off")
        text = f"Node {node_id.hex()} has been out of reach for {silence_ms} ms; the network between the two is broken"
        self.view.cut_off(node_id, text)
        for lease_id, client_id in self._leases_over(node_id, text):
            self._say(node_id, client_id, rm.ReturnLease(lease_id))
        guests = self._guests_of(node_id)
        for guest in guests:
            self.node.world.check.grants.parted(self.node, guest)
            self.node.tell(self.node.leases, le.ClientGone(guest))
        if guests:
            self.send(node_id, Parted(text))
        self.decide(so.ViewChanged())

    def _healed(self, node_id: bytes) -> None:
        self.view.healed(node_id)
        self.decide(so.ViewChanged())

    def _leases_over(self, node_id: bytes, text: str) -> list[tuple[int, bytes]]:
        over = [(lease_id, client_id) for lease_id, (node, client_id) in self._leases.items() if node == node_id]
        for lease_id, client_id in over:
            del self._leases[lease_id]
            self.node.send(client_id, rm.LeaseLost(lease_id, died=True, reason=text))
        return over

    def _guests_of(self, node_id: bytes) -> list[bytes]:
        return [guest for guest, home in self.guests.items() if home == node_id]

    def _received(self, node_id: bytes, message: Any) -> None:
        if isinstance(message, ToClient):
            self._from_other_node(node_id, message.client_id, self._decode(message.body))
        elif isinstance(message, FromClient):
            self.guests[message.client.client_id] = node_id
            self._from_guest(message.client.client_id, self._decode(message.body))
        elif isinstance(message, ClientEnded):
            self._guest_gone(message.client_id)
        elif isinstance(message, Parted):
            self._leases_over(node_id, message.reason)
            self.decide(so.PartsForgotten(node_id))

    # Home side

    def set_demand(self, client: Client, message: rm.SetDemand) -> None:
        """A client of ours could use so many leases."""
        what, count = message.scheduling_class, message.count
        self.decide(so.DemandStated(client.process.client_id, message.class_key, what, count, message.name))
        if message.count:
            self.watch.look_soon()

    def passes_on(self, client: Client, message: Any) -> bool:
        """True when a client's message was for another node, or for what moves between nodes."""
        client_id = client.process.client_id
        if isinstance(message, rm.ReturnLease):
            node_id, _ = self._leases.pop(message.lease_id, (b"", b""))
        elif isinstance(message, FOR_STORES):
            node_id = message.node_id if message.node_id != self.place else b""
        elif isinstance(message, (rm.FetchObject, rm.TakeObject, rm.DropCopies, rm.CopiesRecalled)):
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
