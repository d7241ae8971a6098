"""Neighbours: the connections of this raylet to the raylets of other nodes, and the view of what they have.

One connection a pair carries messages in order; who needs another raylet first connects. The view is asked of the GCS: now
and then, and soon when somebody waits for what another node may have. Carries, and decides nothing.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any

from raybook.core.cluster.resource_view import ResourceView
from raybook.io.channel import RemoteError
from raybook.io.loop_transport import Connection, FrameServer
from raybook.io.transport import connect_nowait
from raybook.protocol.messages.gcs import ListNodes, NodeInfo
from raybook.protocol.messages.neighbours import Greet, NeighbourMessage, ReadRange
from raybook.raylet.gcs_link import GcsLink

logger = logging.getLogger(__name__)

LOOK_S = 1.0
"""How old the view may be while nobody waits."""
LOOK_SOON_S = 0.05
"""And right after somebody began to; then less and less often."""


class Neighbours:
    """host: where to listen for others. on_message(node_id, message). on_range(connection, message): somebody reads an
    object; the connection is handed over. on_view: the nodes have changed, or what they have free. on_dead(node_id,
    reason). is_waiting: whether somebody here would gain by a fresh view."""

    def __init__(self, node_id: bytes, token: bytes, host: str) -> None:
        self.view = ResourceView()
        self.on_message: Callable[[bytes, Any], None] = lambda node_id, message: None
        self.on_range: Callable[[Connection, ReadRange], None] = lambda connection, message: connection.close()
        self.on_view: Callable[[], None] = lambda: None
        self.on_dead: Callable[[bytes, str], None] = lambda node_id, reason: None
        self.is_waiting: Callable[[], bool] = lambda: False
        self._node_id = node_id
        self._token = token
        self._gateways: dict[bytes, str] = {}
        self._dead: dict[bytes, str] = {}
        self._connections: dict[bytes, Connection] = {}
        self._server = FrameServer(f"tcp:{host}:0", token, NeighbourMessage, self._received, self._closed)
        self.address = self._server.address
        self._looking: asyncio.Task[None] | None = None
        self._wake = asyncio.Event()

    def start(self, gcs: GcsLink) -> None:
        """Look at the nodes from now on."""
        self._looking = gcs.spawn(self._look_for_ever(gcs))

    def close(self) -> None:
        if self._looking is not None:
            self._looking.cancel()
        self._server.close()

    def gateway(self, node_id: bytes) -> str:
        """Where a living node listens; "" when it is not known."""
        return self._gateways.get(node_id, "")

    def is_dead(self, node_id: bytes) -> bool:
        """Whether a node that is not known any more has died."""
        return node_id in self._dead

    def send(self, node_id: bytes, message: Any) -> bool:
        """Send, in order. False when the node is not known or cannot be reached; its death is told by ``on_dead``."""
        connection = self._connections.get(node_id)
        if connection is None or connection.closed:
            address = self._gateways.get(node_id)
            if not address:
                return False
            try:
                framed = connect_nowait(address, self._token, NeighbourMessage)
            except OSError as error:
                logger.warning("Node %s cannot be reached at %s: %s", node_id.hex(), address, error)
                return False
            connection = self._server.adopt(framed)
            connection.context = node_id
            self._connections[node_id] = connection
            connection.send(Greet(self._node_id))
        connection.send(message)
        return True

    def look_soon(self) -> None:
        """Somebody waits: look at the nodes now."""
        self._wake.set()

    # --- connections --------------------------------------------------------------------------------------------------

    def _received(self, connection: Connection, message: Any) -> None:
        if isinstance(message, Greet):
            connection.context = message.node_id
            self._connections.setdefault(message.node_id, connection)
        elif isinstance(message, ReadRange):
            self.on_range(connection, message)
        elif connection.context is None:
            logger.warning("A raylet sent a %s before it said which one it is.", type(message).__name__)
            connection.close()
        else:
            self.on_message(connection.context, message)

    def _closed(self, connection: Connection) -> None:
        node_id = connection.context
        if node_id is not None and self._connections.get(node_id) is connection:
            del self._connections[node_id]
            self.look_soon()

    # --- the view -----------------------------------------------------------------------------------------------------

    async def _look_for_ever(self, gcs: GcsLink) -> None:
        pause_s = LOOK_S
        while True:
            try:
                reply = await gcs.call("ListNodes", ListNodes())
            except (RemoteError, ConnectionError) as error:
                logger.debug("The nodes are not known: %s", error)
            else:
                self._look(reply.nodes)
            self._wake.clear()
            try:
                await asyncio.wait_for(self._wake.wait(), pause_s)
                await asyncio.sleep(LOOK_SOON_S / 10)
                pause_s = LOOK_SOON_S
            except (TimeoutError, asyncio.TimeoutError):
                # Who waits long is looked for less and less often: a backlog of an hour needs no twenty looks a second.
                pause_s = min(1.2 * pause_s, LOOK_S / 4) if self.is_waiting() else LOOK_S

    def _look(self, nodes: list[NodeInfo]) -> None:
        for node in nodes:
            if not node.alive:
                self._has_died(node.node_id, node.death_reason)
                continue
            if node.node_id not in self._gateways:
                self._gateways[node.node_id] = node.gateway_address
                self.view.add(node.node_id, node.resources_total, node.resources_available, node.labels)
            else:
                self.view.report(node.node_id, node.resources_available)
        self.on_view()

    def _has_died(self, node_id: bytes, reason: str) -> None:
        if node_id in self._dead:
            return
        self._dead[node_id] = reason
        self.view.remove(node_id)
        self._gateways.pop(node_id, None)
        connection = self._connections.pop(node_id, None)
        if connection is not None:
            connection.close()
        self.on_dead(node_id, reason)
