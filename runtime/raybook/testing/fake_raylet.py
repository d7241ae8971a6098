"""A raylet's control service without a node behind it: it notes what the GCS asks and does as it is told.

Stands in for the *world* in tests of the GCS; the machines in those tests are the real ones.
"""

from __future__ import annotations

import asyncio
from typing import Any

from raybook.base.facts import ACTOR_ALIVE, ACTOR_DEAD
from raybook.base.specs import Endpoint
from raybook.io.channel import Channel, RemoteError
from raybook.protocol.messages import node as messages
from raybook.protocol.messages.gcs import ActorStateReport, Empty, NodeInfo, RegisterNode


class FakeRaylet:
    """Accepts every actor and bundle and keeps actors until told otherwise. ``reachable`` false: its channel is broken."""

    def __init__(self, node_id: bytes, cpus: int = 4, raylet_address: str = "") -> None:
        self.info = NodeInfo(
            node_id,
            raylet_address=raylet_address,
            resources_total={"CPU": cpus * 10_000},
            resources_available={"CPU": cpus * 10_000},
        )
        self.calls: list[Any] = []
        self.actors: dict[bytes, messages.PlaceActor] = {}
        self.reachable = True
        self.refusal = ""
        self._arrived = asyncio.Event()

    async def call(self, method: str, request: Any) -> Any:
        if not self.reachable:
            raise ConnectionError("The fake raylet is out of reach.")
        if method not in messages.METHODS:
            raise RemoteError("ValueError", f"no method {method}")
        self.calls.append(request)
        self._arrived.set()
        if isinstance(request, messages.PlaceActor):
            if self.refusal:
                return messages.PlaceActorReply(False, self.refusal)
            self.actors[request.spec.actor_id] = request
            return messages.PlaceActorReply(True)
        if isinstance(request, messages.StopActor):
            self.actors.pop(request.actor_id, None)
        if isinstance(request, messages.PrepareBundles):
            return messages.PrepareBundlesReply(not self.refusal, self.refusal)
        if isinstance(request, messages.ReturnBundles):
            return messages.ReturnBundlesReply(True)
        if isinstance(request, messages.GetNodeStats):
            workers = [messages.WorkerInfo(b"w", 1, "ACTOR", {}, actor_id) for actor_id in self.actors]
            return messages.NodeStats(workers, 0, 0)
        return Empty()

    async def close(self, grace_s: float = 0.0) -> None:
        pass

    def received(self, kind: type) -> list[Any]:
        """Requests of one kind, in order."""
        return [call for call in self.calls if isinstance(call, kind)]

    async def wait_for(self, kind: type, count: int = 1) -> list[Any]:
        """Wait until so many requests of one kind have come."""
        while len(self.received(kind)) < count:
            self._arrived.clear()
            await self._arrived.wait()
        return self.received(kind)

    async def register(self, gcs: Channel) -> None:
        await gcs.call("RegisterNode", RegisterNode(self.info))

    async def report_alive(self, gcs: Channel, actor_id: bytes) -> None:
        """Say that a placed actor lives now."""
        placed = self.actors[actor_id]
        endpoint = Endpoint(b"worker..", self.info.node_id, "unix:/worker")
        report = ActorStateReport(actor_id, placed.incarnation, ACTOR_ALIVE, endpoint, pid=99)
        await gcs.call("ActorStateReport", report)

    async def report_dead(self, gcs: Channel, actor_id: bytes, reason: str = "signal 9", **fields: Any) -> None:
        """Say that an actor's process is gone."""
        placed = self.actors.pop(actor_id)
        report = ActorStateReport(actor_id, placed.incarnation, ACTOR_DEAD, reason=reason, **fields)
        await gcs.call("ActorStateReport", report)
