"""Node feed desk: answers raylets that ask what has changed among the nodes, at once or when something does.

A question that is held back is also a sign of life: its connection breaks at the moment a raylet's process ends, long
before its silence could tell. Decides nothing: what changed is in ``core/cluster/node_feed``, what an end means in
``core/cluster/node_table``.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from raybook.base.ids import random_id
from raybook.base.resources import Shape
from raybook.core.cluster.node_feed import Changes, NodeFeed
from raybook.protocol.messages import gcs as messages

HOLD_MS_MAX = 20_000
"""Below what a gRPC call may take (``io/rpc``)."""


class NodeFeedDesk:
    """row: a node as others see it. disconnected: a raylet's question was cut off before it was answered."""

    def __init__(self, row: Callable[[bytes], messages.NodeInfo | None], disconnected: Callable[[bytes], None]) -> None:
        self.methods: dict[str, Callable[[Any], Awaitable[Any]]] = {"WatchNodes": self._watch}
        self.feed = NodeFeed()
        self._epoch = random_id()
        self._row = row
        self._disconnected = disconnected
        self._waiters: dict[asyncio.Future[None], bool] = {}
        """Who waits → whether amounts are news to it."""
        self._is_ending = False

    def close(self) -> None:
        """The cluster ends: connections that are cut from now on say nothing of their nodes."""
        self._is_ending = True

    def joined(self, node: messages.NodeInfo) -> None:
        self.feed.joined(node.node_id, node.resources_available or node.resources_total)
        self._wake(is_amount=False)

    def died(self, node_id: bytes) -> None:
        self.feed.died(node_id)
        self._wake(is_amount=False)

    def reported(self, node_id: bytes, available: Shape) -> None:
        """What a living node has free."""
        if self.feed.reported(node_id, available):
            self._wake(is_amount=True)

    def _wake(self, is_amount: bool) -> None:
        for waiter, wants_amounts in self._waiters.items():
            if (wants_amounts or not is_amount) and not waiter.done():
                waiter.set_result(None)

    async def _watch(self, request: messages.WatchNodes) -> messages.NodesDelta:
        since = request.since if request.epoch == self._epoch else 0
        changes = self.feed.since(since, request.amounts)
        if changes is None and request.hold_ms > 0:
            await self._wait(request)
            changes = self.feed.since(since, request.amounts)
        return self._delta(since, changes)

    async def _wait(self, request: messages.WatchNodes) -> None:
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiters[waiter] = request.amounts
        try:
            await asyncio.wait([waiter], timeout=min(request.hold_ms, HOLD_MS_MAX) / 1000)
        except asyncio.CancelledError:
            if not self._is_ending:
                self._disconnected(request.node_id)
            raise
        finally:
            del self._waiters[waiter]

    def _delta(self, since: int, changes: Changes | None) -> messages.NodesDelta:
        if changes is None:
            return messages.NodesDelta(self._epoch, since, self.feed.version)
        rows = [row for node_id in changes.members if (row := self._row(node_id)) is not None]
        for row in rows:
            row.resources_available = self.feed.available(row.node_id)
        amounts = [messages.FreeAmounts(node_id, self.feed.available(node_id)) for node_id in changes.amounts]
        return messages.NodesDelta(self._epoch, since, changes.version, rows, amounts, changes.reset, changes.newest)
