"""Drains: how nodes leave on purpose. Asks the raylet, which knows whether it may, and tells the tables.

A drain is the raylet's to carry out; the GCS keeps work away from the node and has its actors and bundles begin
elsewhere, which it hears of as ``NodeDraining``. Methods may be called twice.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from typing import Any

from raybook.base.drains import NO_DEADLINE, REASONS
from raybook.core.cluster.node_table import NodeDraining, NodeLeft, NodeTable
from raybook.io.channel import RemoteError
from raybook.protocol.messages import gcs as messages
from raybook.protocol.messages.node import DrainRaylet

logger = logging.getLogger(__name__)

ANSWER_TIMEOUT_S = 5.0


class DrainDesk:
    """ask(node, request, timeout in seconds): a raylet's answer, None when there is none. decide: hands events to the
    node table and carries out what it says."""

    def __init__(
        self,
        nodes: NodeTable,
        ask: Callable[[bytes, Any, float], Awaitable[Any]],
        decide: Callable[[Any], Awaitable[None]],
    ) -> None:
        self._nodes = nodes
        self._ask = ask
        self._decide = decide
        self.methods: dict[str, Callable[[Any], Awaitable[Any]]] = {
            "DrainNode": self._drain,
            "UnregisterNode": self._unregister,
        }

    async def _drain(self, request: messages.DrainNode) -> messages.DrainNodeReply:
        if request.reason not in REASONS:
            raise RemoteError("ValueError", f"{request.reason!r} is no reason to drain; reasons: {', '.join(REASONS)}.")
        if request.deadline_ms < NO_DEADLINE:
            raise RemoteError("ValueError", f"A deadline lies ahead; got {request.deadline_ms} ms.")
        node = self._nodes.get(request.node_id)
        if node is None:
            text = (
                f"There is no node {request.node_id.hex()} in this cluster. `raybook list nodes` shows which there are."
            )
            raise RemoteError("ValueError", text)
        if not node.alive:
            return messages.DrainNodeReply(True)
        if node.is_head:
            text = "It is the head node, which ends with its cluster only: `raybook stop`. Nothing was changed."
            return messages.DrainNodeReply(False, text)
        wanted = DrainRaylet(request.reason, request.message, request.deadline_ms)
        answer = await self._ask(request.node_id, wanted, ANSWER_TIMEOUT_S)
        if answer is None:
            text = f"The node did not answer within {ANSWER_TIMEOUT_S:g} s. If it is dead, the cluster knows soon."
            return messages.DrainNodeReply(False, text)
        if not answer.accepted:
            return messages.DrainNodeReply(False, answer.rejection)
        logger.info("Node %s drains: %s", request.node_id.hex(), answer.draining)
        await self._decide(NodeDraining(request.node_id, answer.draining))
        return messages.DrainNodeReply(True)

    async def _unregister(self, request: messages.UnregisterNode) -> messages.Empty:
        await self._decide(NodeLeft(request.node_id, request.reason or "it left on purpose."))
        return messages.Empty()
