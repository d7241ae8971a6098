"""A cluster seen from another process, over gRPC with its token: facts for a feed, and commands for its GCS.

For readers that are no driver: the Jupyter server. Lives on one event loop; keeps nothing but the connection. grpc is
imported when the first cluster is looked at, not before.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from raybook.io.channel import RemoteError
from raybook.io.cluster_registry import ClusterRecord
from raybook.io.process import start_time
from raybook.io.tls import load_tls
from raybook.protocol.messages.daemons import OwnerProcess
from raybook.protocol.messages.gcs import DrainNode, GetFacts, KillActor, ListNodes, NodeInfo, SetLife, StopCluster
from raybook.protocol.messages.survey import ORDERS, Survey

__all__ = ["ClusterSilent", "CommandRefused", "OwnerProcess", "RemoteCluster", "start_time"]

ANSWER_S = 5.0
"""An order waits a second for each process, and three for a node that does not answer."""


class ClusterSilent(ConnectionError):
    """A cluster that does not answer, or serves nobody but its own driver (yet)."""


class CommandRefused(RuntimeError):
    """The cluster answered, and said no."""


class RemoteCluster:
    """One cluster. ``Feed`` takes it for its source; ``read_facts`` is to be called a few times a second. Make it, and
    use it, on a running loop."""

    def __init__(self, record: ClusterRecord) -> None:
        self.record = record
        self._channel: Any = None
        self._version = 0
        self._listeners: list[Callable[[Any], None]] = []

    def subscribe_facts(self, callback: Callable[[Any], None]) -> Callable[[], None]:
        """As ``FactSource``; called on the loop, by ``read_facts``."""
        self._listeners.append(callback)
        return lambda: self._listeners.remove(callback) if callback in self._listeners else None

    async def read_facts(self) -> bool:
        """Ask for what has changed, and hand it on; whether something has. ClusterSilent."""
        reply = await self.call(GetFacts(self._version))
        changed = bool(reply.reset or reply.facts)
        self._version = reply.version
        if changed:
            for listener in list(self._listeners):
                listener(reply)
        return changed

    async def call(self, request: Any) -> Any:
        """The GCS's answer to one message. ClusterSilent, or CommandRefused with the GCS's own words."""
        try:
            channel = self._channel or await self._connect()
            return await channel.call(type(request).__name__, request)
        except RemoteError as error:
            raise CommandRefused(error.text) from None
        except (OSError, asyncio.TimeoutError) as error:
            raise ClusterSilent(
                f"The cluster {self.record.title} ({self.record.address}) does not answer: {error}"
            ) from None

    async def order(self, verb: str, **wish: Any) -> list[dict[str, Any]]:
        """Have every process do what of it is its own (``worker/orders``); what they did. Blocks for a round trip through
        all of them, a second when one is silent."""
        body = msgspec.msgpack.encode({**wish, "verb": verb})
        reply = await self.call(Survey(ORDERS, order=body))
        return [row for account in reply.accounts for row in msgspec.msgpack.decode(account.rows)]

    async def cancel(self, **wish: Any) -> int:
        """Cancel tasks and calls, whoever submitted them, with what they submitted; how many were asked for. wish: see
        ``worker/orders``."""
        return sum(int(row.get("cancelled", 0)) for row in await self.order("cancel", **wish))

    async def kill_actor(self, actor_id: str, no_restart: bool = True) -> None:
        """As ``raybook.kill``. ValueError for what is no id."""
        await self.call(KillActor(bytes.fromhex(actor_id), no_restart, False, "somebody asked for it in Jupyter"))

    async def drain(self, node_id: bytes, deadline_ms: int) -> None:
        """Have a node emptied; it leaves. CommandRefused."""
        reply = await self.call(
            DrainNode(node_id, "DRAIN_NODE_REASON_PREEMPTION", "the cluster was scaled down", deadline_ms)
        )
        if not reply.accepted:
            raise CommandRefused(f"Node {node_id.hex()} was not drained: {reply.rejection}")

    async def nodes(self) -> list[NodeInfo]:
        """Living nodes that do not drain, the head first."""
        found = (await self.call(ListNodes())).nodes
        return sorted((node for node in found if node.alive and not node.draining), key=lambda node: not node.is_head)

    async def stop(self, reason: str) -> None:
        """Ask the cluster to end. Returns when it has begun to."""
        await self.call(StopCluster(reason))

    async def set_life(self, owner: OwnerProcess | None) -> None:
        """From now on it ends with this process; None: it stays until somebody stops it. CommandRefused when it cannot."""
        wish = SetLife(True) if owner is None else SetLife(True, owner.pid, owner.start_time, owner.kernel_id)
        await self.call(wish)

    async def set_idle_timeout(self, seconds: float) -> None:
        """It ends when nothing has worked on it for so long; 0: never."""
        await self.call(SetLife(idle_timeout_s=seconds))

    async def close(self) -> None:
        """Let the connection go. Idempotent."""
        channel, self._channel = self._channel, None
        if channel is not None:
            await channel.close()

    async def _connect(self) -> Any:
        if not self.record.address:
            raise ClusterSilent(f"The cluster {self.record.title} serves nobody but its own driver yet.")
        # In a thread: grpc takes 100 ms to import, and whoever else lives on this loop should not wait for it.
        module = await asyncio.get_running_loop().run_in_executor(None, _rpc)
        token = Path(self.record.token_file).read_bytes()
        tls = load_tls(self.record.session_dir)
        self._channel = self._channel or module.GrpcChannel("Gcs", self.record.address, token, ANSWER_S, tls)
        return self._channel


def _rpc() -> Any:
    from raybook.io import rpc

    return rpc
