"""Abroad: what clients of this node ask of other nodes, and what this node does for clients of others.

Home side: a client's demand is laid out over the nodes (``core/node/spillover``); the parts of other nodes travel to their
raylets, and what these say to the client travels back. Guest side: the same messages come in for clients that are
registered elsewhere, and go the same way as those of our own. A shell: message → event → machine → effects.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any

import msgspec

from raybook.base.config import Config
from raybook.base.resources import OBJECT_STORE_MEMORY, to_user
from raybook.core.node import lease_events as le
from raybook.core.node import spillover as so
from raybook.core.node.node_view import NodeDied
from raybook.core.node.translation import LEASE_EVENTS
from raybook.io.peer_address import node_home
from raybook.io.transport import Security
from raybook.protocol.messages import raylet as rm
from raybook.protocol.messages import store as sm
from raybook.protocol.messages.neighbours import ClientEnded, FromClient, Parted, ReadOver, ToClient
from raybook.raylet.clients import Client, ClientTable
from raybook.raylet.effects import NodeDecider
from raybook.raylet.gcs_link import GcsLink
from raybook.raylet.neighbours import Neighbours
from raybook.raylet.node_watch import NodeWatch
from raybook.raylet.store_service import StoreService
from raybook.raylet.transfer_service import TransferService

logger = logging.getLogger(__name__)

Handler = Callable[[Client, Any], None]

LEASE_PREFIX_BYTES = 3
LEASE_COUNT_BITS = 38
"""A client knows leases by number, whichever node they are from: numbers begin with the node's, and fit 63 bits."""
FOR_STORES = (sm.FreeRegions, sm.SpillObjects, sm.SpillDone, sm.DeleteSpilled)
"""What an owner says to the store in which its objects lie."""


class Abroad:
    """One for each raylet that has neighbours. host: where to listen for them, at ``address``. security: TLS, if the cluster
    uses it."""

    def __init__(
        self,
        node_id: bytes,
        token: bytes,
        config: Config,
        host: str,
        clients: ClientTable,
        decider: NodeDecider,
        store: StoreService,
        security: Security | None = None,
    ) -> None:
        timeout_ms = config.health_check_timeout_ms
        watch = self._watch = NodeWatch(node_id, timeout_ms)
        neighbours = self._neighbours = Neighbours(node_id, token, host, watch, timeout_ms, security)
        self.address = neighbours.address
        self._node_id = node_id
        self._clients = clients
        self._decider = decider
        self._store = store
        self._encode = msgspec.msgpack.Encoder().encode
        self._decode = msgspec.msgpack.Decoder(rm.RayletMessage).decode
        self._machine = so.Spillover(node_id, watch.view, decider.leases.available_for_reports, watch.view.why_absent)
        self._leases: dict[int, tuple[bytes, bytes]] = {}
        """Leases of other nodes → (node, client of ours that has it)."""
        self._guests: dict[bytes, bytes] = {}
        """Clients of other nodes that we serve → their node."""
        self._told: dict[bytes, dict[bytes, bool]] = {}
        """Client of ours → the nodes that know it."""
        decider.leases.last_lease_id = int.from_bytes(node_id[:LEASE_PREFIX_BYTES], "big") << LEASE_COUNT_BITS
        self._transfers = TransferService(
            node_id,
            token,
            store.arena,
            store.capacity_bytes,
            store.spill_folder,
            neighbours,
            lambda message: store.received(node_id, message),
            decider.send,
        )
        store.to_self = self._transfers.from_store
        store.about_cluster = self._stores_of_cluster
        decider.leases.reports.view = watch.view
        store.client_joined(node_id, "copies of other nodes' objects")
        neighbours.on_message = self.received
        neighbours.on_cut_off = self._cut_off
        neighbours.on_healed = self._healed
        watch.is_waiting = self._machine.is_waiting
        watch.on_view = lambda: self._decide(so.ViewChanged())
        watch.on_dead = self._node_died
        watch.on_draining = self._node_drains
        decider.abroad = self.send_guest
        decider.granted = lambda client_id, class_key: self._decide(so.GrantPassed(client_id, class_key, node_id))

    def start(self, gcs: GcsLink) -> None:
        """Look at the nodes from now on."""
        # Whoever holds this node for dead has that from the GCS, which says so itself when it hears of us.
        self._neighbours.on_fenced = lambda reason: gcs.resources_changed()
        self._watch.start(gcs)

    def transfer_statistics(self) -> dict[str, int]:
        """What came from other nodes and went there, in counts and bytes."""
        return self._transfers.statistics()

    def _stores_of_cluster(self) -> str:
        """For who finds no room in this node's store."""
        view = self._watch.view
        most = to_user(view.most([OBJECT_STORE_MEMORY]))[OBJECT_STORE_MEMORY]
        return (
            f" The largest store of the cluster's {len(view)} nodes holds {most / (1 << 20):.1f} MiB." if most else ""
        )

    def close(self) -> None:
        """Talk to no other node any more."""
        self._transfers.close()
        self._watch.close()
        self._neighbours.close()

    # --- home side ----------------------------------------------------------------------------------------------------

    def handlers(self, own: dict[type, Handler]) -> dict[type, Handler]:
        """Handlers in place of ``own``, those of a node without neighbours."""
        mine: dict[type, Handler] = {rm.SetDemand: self._set_demand}

        def return_lease(client: Client, message: rm.ReturnLease) -> None:
            if not self._return_lease(client.client_id, message):
                own[rm.ReturnLease](client, message)

        def to_store(client: Client, message: Any) -> None:
            if message.node_id in (b"", self._node_id):
                own[type(message)](client, message)
            else:
                self._say(message.node_id, client.client_id, message)

        mine[rm.ReturnLease] = return_lease
        mine.update(dict.fromkeys(FOR_STORES, to_store))
        mine[rm.FetchObject] = lambda client, message: self._transfers.fetch(client.client_id, message)
        mine[rm.TakeObject] = lambda client, message: self._transfers.take(client.client_id, message)
        mine[rm.DropCopies] = lambda client, message: self._transfers.drop(client.client_id, message)
        mine[rm.CopiesRecalled] = lambda client, message: self._transfers.recalled(client.client_id, message)
        return mine

    def _set_demand(self, client: Client, message: rm.SetDemand) -> None:
        self._decide(
            so.DemandStated(client.client_id, message.class_key, message.scheduling_class, message.count, message.name)
        )
        if message.count:
            self._watch.look_soon()

    def _return_lease(self, client_id: bytes, message: rm.ReturnLease) -> bool:
        """True when the lease was another node's."""
        node_id, _ = self._leases.pop(message.lease_id, (b"", b""))
        if not node_id:
            return False
        self._say(node_id, client_id, message)
        return True

    def group_placed(self, group_id: bytes, nodes: list[bytes]) -> None:
        """Where the bundles of a group lie."""
        self._decide(so.GroupPlaced(group_id, nodes))

    def client_gone(self, client_id: bytes) -> None:
        """A client of ours is dead: whoever served it shall know."""
        self._transfers.client_gone(client_id)
        self._decide(so.ClientLeft(client_id))
        for lease_id in [lease_id for lease_id, (_, client) in self._leases.items() if client == client_id]:
            del self._leases[lease_id]
        for node_id in self._told.pop(client_id, {}):
            self._neighbours.send(node_id, ClientEnded(client_id))

    def _decide(self, *events: Any) -> None:
        for effect in self._machine.handle(events):
            if isinstance(effect, so.RefuseDemand):
                self._decider.send(effect.client, rm.DemandRefused(effect.class_key, effect.code, effect.text))
            elif effect.node_id == self._node_id:
                self._decider.lease(
                    le.DemandSet(effect.client, effect.class_key, effect.what, effect.count, effect.name)
                )
            else:
                demand = rm.SetDemand(effect.class_key, effect.what, effect.count, effect.name)
                if not self._say(effect.node_id, effect.client, demand) and effect.count:
                    lost = so.PartUndelivered(effect.client, effect.class_key, effect.node_id)
                    asyncio.get_running_loop().call_soon(self._decide, lost)

    def _say(self, node_id: bytes, client_id: bytes, message: Any) -> bool:
        client = self._clients.get(client_id)
        if client is None:
            return True
        name = f"{client.kind} {client.pid} of node {self._node_id.hex()}"
        if not self._neighbours.send(node_id, FromClient(client.endpoint, self._encode(message), name)):
            return False
        self._told.setdefault(client_id, {})[node_id] = True
        return True

    def _from_other_node(self, node_id: bytes, client_id: bytes, message: Any) -> None:
        """Another node says something to a client of ours."""
        if isinstance(message, rm.LeaseGranted):
            self._leases[message.lease_id] = (node_id, client_id)
            self._decider.send(client_id, message)
            self._decide(so.GrantPassed(client_id, message.class_key, node_id))
            return
        if isinstance(message, rm.LeaseLost):
            self._leases.pop(message.lease_id, None)
        elif isinstance(message, rm.DemandRefused):
            self._decide(so.DemandEnded(client_id, message.class_key))
        self._decider.send(client_id, message)

    # --- nodes that are gone ------------------------------------------------------------------------------------------

    def _node_died(self, died: NodeDied) -> None:
        """Its leases are over, its clients are gone, what was asked of it is asked of others."""
        node_id = died.node_id
        if node_id == self._node_id:
            # That is us. The GCS says so itself when we report, and then this node ends with all it runs.
            self._neighbours.on_fenced(died.reason)
            return
        self._neighbours.node_died(died)
        self._transfers.node_died(node_id)
        self._leases_over(node_id, f"Its node {node_id.hex()} died: {died.reason}")
        for guest in self._guests_of(node_id):
            self._guest_gone(guest)
        self._decide(so.ViewChanged())
        gone = rm.NodeGone(node_id, died.reason, node_home(died.info.socket_address, died.info.ip))
        for client in self._clients:
            client.connection.send(gone)

    def _cut_off(self, node_id: bytes, silence_ms: int) -> None:
        """It lives, as far as the head knows, and cannot be reached from here. Nothing waits for it: leases there are over,
        and those of its clients here. What was said to it is kept until it can be reached."""
        text = (
            f"Node {node_id.hex()} has been out of reach of node {self._node_id.hex()} for {silence_ms / 1000:.1f} s. The "
            "head hears both: the network between the two is broken"
        )
        logger.warning("%s.", text)
        self._watch.view.cut_off(node_id, text)
        for lease_id, client_id in self._leases_over(node_id, f"{text}, so that the task may or may not have run."):
            self._say(node_id, client_id, rm.ReturnLease(lease_id))
        guests = self._guests_of(node_id)
        for guest in guests:
            self._decider.lease(le.ClientGone(guest))
        if guests:
            self._neighbours.send(node_id, Parted(f"{text}."))
        self._decide(so.ViewChanged())

    def _healed(self, node_id: bytes) -> None:
        logger.info("Node %s can be reached again.", node_id.hex())
        self._watch.view.healed(node_id)
        self._decide(so.ViewChanged())

    def _parted(self, node_id: bytes, reason: str) -> None:
        """It could not reach us. What our clients had there is over."""
        self._leases_over(node_id, f"{reason} The task may or may not have run.")
        self._decide(so.PartsForgotten(node_id))

    def _leases_over(self, node_id: bytes, text: str) -> list[tuple[int, bytes]]:
        """Tell our clients that their leases there are lost. (Lease, client) of each."""
        over = [(lease_id, client_id) for lease_id, (node, client_id) in self._leases.items() if node == node_id]
        for lease_id, client_id in over:
            del self._leases[lease_id]
            self._decider.send(client_id, rm.LeaseLost(lease_id, died=True, reason=text))
        return over

    def _guests_of(self, node_id: bytes) -> list[bytes]:
        return [guest for guest, home in self._guests.items() if home == node_id]

    def _node_drains(self, node_id: bytes) -> None:
        """It takes no more work; what our clients have there is to move."""
        self._machine.is_draining = self._machine.is_draining or node_id == self._node_id
        for client in self._clients:
            client.connection.send(rm.NodeDraining(node_id))

    def welcome(self, client: Client) -> None:
        """A new client hears what the others know."""
        for node_id in self._watch.view.draining:
            client.connection.send(rm.NodeDraining(node_id))

    # --- guest side ---------------------------------------------------------------------------------------------------

    def received(self, node_id: bytes, message: Any) -> None:
        """A neighbour's message."""
        if isinstance(message, ToClient):
            self._from_other_node(node_id, message.client_id, self._decode(message.body))
        elif isinstance(message, FromClient):
            self._guests[message.client.client_id] = node_id
            self._from_guest(message.client.client_id, self._decode(message.body))
        elif isinstance(message, ClientEnded):
            self._guest_gone(message.client_id)
        elif isinstance(message, Parted):
            self._parted(node_id, message.reason)
        elif isinstance(message, ReadOver):
            self._transfers.read_over(node_id, message)

    def _from_guest(self, client_id: bytes, message: Any) -> None:
        if isinstance(message, (rm.SetDemand, rm.ReturnLease)):
            self._decider.lease(LEASE_EVENTS[type(message)](client_id, message))
        elif isinstance(message, FOR_STORES):
            self._store.received(client_id, message)
        else:
            logger.warning("A client of another node sent a %s, which is not for us.", type(message).__name__)

    def send_guest(self, client_id: bytes, message: Any) -> None:
        """To a client of another node; who is unknown will be heard of as dead."""
        node_id = self._guests.get(client_id)
        if node_id is not None:
            self._neighbours.send(node_id, ToClient(client_id, self._encode(message)))

    def _guest_gone(self, client_id: bytes) -> None:
        if self._guests.pop(client_id, None) is not None:
            self._decider.lease(le.ClientGone(client_id))
            self._store.owner_died(client_id)
