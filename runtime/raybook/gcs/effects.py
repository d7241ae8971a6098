"""Effects of the GCS: carries out what its machines ask for, in order, and reports what came of it.

Each node has an outbox (``io/outbox``), which stands still while the node is out of reach and goes on when the node
table says that it answers again. Decides nothing: answers go back as events.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine, Sequence
from functools import partial
from typing import Any

from raybook.core.cluster import actor_events
from raybook.io.channel import Channel, LocalChannel, RemoteError
from raybook.io.outbox import Outbox
from raybook.protocol.messages.node import ActorChanged, PlaceActor, StopActor

logger = logging.getLogger(__name__)

GRACE_S = 30.0
"""No call takes longer."""
CLOSE_S = 0.5

Answered = Callable[[bytes, Any, Any], None]
"""(node, request, reply or RemoteError)."""


class EffectRunner:
    """See the module's text. Whoever calls ``act`` has written down what led to it (``gcs/ledger``)."""

    def __init__(
        self,
        published: Callable[[actor_events.Publish], None],
        answered: Answered,
        unreachable: Callable[[bytes], None],
    ) -> None:
        self._published = published
        self._answered = answered
        self._unreachable = unreachable
        self._outboxes: dict[bytes, Outbox] = {}
        self._closings: set[asyncio.Task[None]] = set()
        self._acts: dict[type, Callable[[Any], None]] = {
            actor_events.Place: self._place,
            actor_events.StopOn: self._stop,
            actor_events.Publish: self._publish,
        }

    def add_node(self, node_id: bytes, channel: Channel) -> None:
        """From now on this node can be reached. One that registers again keeps what waits for it."""
        outbox = self._outboxes.get(node_id)
        if outbox is None:
            self._outboxes[node_id] = Outbox(channel, partial(self._unreachable, node_id))
        else:
            # What is under way through the old one is not to be lost: a cancelled call would stop the outbox.
            self._close_later(outbox.channel.close(GRACE_S))
            outbox.channel = channel
            outbox.resume()

    def remove_node(self, node_id: bytes) -> None:
        """It is gone: what it has not been told is dropped."""
        outbox = self._outboxes.pop(node_id, None)
        if outbox is not None:
            self._close_later(_close(outbox))

    def _close_later(self, closing: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(closing)
        self._closings.add(task)
        task.add_done_callback(self._closings.discard)

    def channel(self, node_id: bytes) -> Channel | None:
        """For questions that need no order (probes, statistics)."""
        outbox = self._outboxes.get(node_id)
        return None if outbox is None else outbox.channel

    async def ask(self, node_id: bytes, request: Any, timeout_s: float) -> Any:
        """A node's answer to such a question; None when there is none in time."""
        channel = self.channel(node_id)
        if channel is None:
            return None
        try:
            return await asyncio.wait_for(channel.call(type(request).__name__, request), timeout_s)
        except (ConnectionError, TimeoutError, asyncio.TimeoutError):
            return None
        except RemoteError as error:
            logger.warning("Node %s could not give its account: %s", node_id.hex(), error)
            return None

    def local_channel(self, node_id: bytes) -> LocalChannel | None:
        """The channel to a node on this very loop, which answers at once and cannot be out of reach."""
        channel = self.channel(node_id)
        return channel if isinstance(channel, LocalChannel) else None

    def resume(self, node_id: bytes) -> None:
        outbox = self._outboxes.get(node_id)
        if outbox is not None:
            outbox.resume()

    def send(self, node_id: bytes, method: str, request: Any) -> None:
        """Queue a call to a node; for one that is gone there is nobody to tell."""
        outbox = self._outboxes.get(node_id)
        if outbox is not None:
            outbox.send(method, request, partial(self._answered, node_id, request))

    def send_all(self, method: str, request: Any) -> None:
        for node_id in self._outboxes:
            self.send(node_id, method, request)

    async def drain(self, timeout_s: float) -> None:
        """Wait for deliveries that are under way."""
        await asyncio.gather(*(outbox.drain(timeout_s) for outbox in self._outboxes.values()))

    async def close(self) -> None:
        """Drop what nodes have not been told."""
        for node_id in list(self._outboxes):
            self.remove_node(node_id)
        if self._closings:
            await asyncio.wait(list(self._closings), timeout=CLOSE_S)
        for closing in list(self._closings):
            closing.cancel()

    def act(self, effects: Sequence[Any]) -> None:
        """Carry out effects, in order."""
        for effect in effects:
            act = self._acts.get(type(effect))
            if act is not None:
                act(effect)

    def _place(self, effect: actor_events.Place) -> None:
        self.send(effect.node_id, "PlaceActor", PlaceActor(effect.spec, effect.incarnation, effect.restarts))

    def _stop(self, effect: actor_events.StopOn) -> None:
        request = StopActor(effect.actor_id, effect.incarnation, effect.graceful, effect.reason)
        self.send(effect.node_id, "StopActor", request)

    def _publish(self, effect: actor_events.Publish) -> None:
        self._published(effect)
        for node_id in effect.nodes:
            self.send(node_id, "ActorChanged", ActorChanged(effect.info))


async def _close(outbox: Outbox) -> None:
    await outbox.close()
    await outbox.channel.close()
