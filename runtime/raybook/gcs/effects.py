"""Effects of the GCS: carries out what its machines ask for, in order, and reports what came of it.

Each node has an outbox: one call at a time, in order, at least once. When a node is out of reach its outbox stands
still with the unanswered call at its head, and goes on when the node table says that it answers again; the raylet's
methods are idempotent for that reason. Decides nothing: answers go back as events.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

from raybook.core.cluster import actor_events
from raybook.io.channel import Channel, RemoteError
from raybook.io.storage import Storage, Write
from raybook.protocol.messages.node import ActorChanged, PlaceActor, StopActor

logger = logging.getLogger(__name__)

Answered = Callable[[bytes, Any, Any], None]
"""(node, request, reply or RemoteError)."""


class Outbox:
    """Calls to one raylet, in order."""

    def __init__(
        self, node_id: bytes, channel: Channel, answered: Answered, unreachable: Callable[[bytes], None]
    ) -> None:
        self.node_id = node_id
        self.channel = channel
        self._answered = answered
        self._unreachable = unreachable
        self._queue: deque[tuple[str, Any]] = deque()
        self._task: asyncio.Task[None] | None = None

    def send(self, method: str, request: Any) -> None:
        """Queue a call; it goes out as soon as those before it are answered."""
        self._queue.append((method, request))
        self.resume()

    def resume(self) -> None:
        """Go on after the node was out of reach. Harmless when it was not."""
        if self._queue and (self._task is None or self._task.done()):
            self._task = asyncio.get_running_loop().create_task(self._deliver())

    @property
    def task(self) -> asyncio.Task[None] | None:
        """The delivery under way."""
        return None if self._task is None or self._task.done() else self._task

    async def close(self) -> None:
        """Drop what is queued; the node is gone."""
        self._queue.clear()
        if self._task is not None and self._task is not asyncio.current_task():
            self._task.cancel()
            await asyncio.wait([self._task])
        await self.channel.close()

    async def _deliver(self) -> None:
        while self._queue:
            method, request = self._queue[0]
            try:
                reply = await self.channel.call(method, request)
            except RemoteError as error:
                reply = error
            except ConnectionError:
                self._unreachable(self.node_id)
                return
            if self._queue:  # It may have been closed meanwhile.
                self._queue.popleft()
                self._answered(self.node_id, request, reply)


class EffectRunner:
    """Persists first, then acts; see the module's text."""

    def __init__(
        self,
        storage: Storage,
        published: Callable[[actor_events.Publish], None],
        answered: Answered,
        unreachable: Callable[[bytes], None],
    ) -> None:
        self._storage = storage
        self._published = published
        self._answered = answered
        self._unreachable = unreachable
        self._outboxes: dict[bytes, Outbox] = {}
        self._backlog: list[tuple[Sequence[Write], Sequence[Any], asyncio.Future[None]]] = []
        self._saver: asyncio.Task[None] | None = None
        self._closings: set[asyncio.Task[None]] = set()
        self._acts: dict[type, Callable[[Any], None]] = {
            actor_events.Place: self._place,
            actor_events.StopOn: self._stop,
            actor_events.Publish: self._publish,
        }

    def add_node(self, node_id: bytes, channel: Channel) -> None:
        """From now on this node can be reached. A channel it had before is closed."""
        self.remove_node(node_id)
        self._outboxes[node_id] = Outbox(node_id, channel, self._answered, self._unreachable)

    def remove_node(self, node_id: bytes) -> None:
        outbox = self._outboxes.pop(node_id, None)
        if outbox is not None:
            closing = asyncio.get_running_loop().create_task(outbox.close())
            self._closings.add(closing)
            closing.add_done_callback(self._closings.discard)

    def channel(self, node_id: bytes) -> Channel | None:
        """For questions that need no order (probes, statistics)."""
        outbox = self._outboxes.get(node_id)
        return None if outbox is None else outbox.channel

    def resume(self, node_id: bytes) -> None:
        outbox = self._outboxes.get(node_id)
        if outbox is not None:
            outbox.resume()

    def send(self, node_id: bytes, method: str, request: Any) -> None:
        """Queue a call to a node; for one that is gone there is nobody to tell."""
        outbox = self._outboxes.get(node_id)
        if outbox is not None:
            outbox.send(method, request)

    def send_all(self, method: str, request: Any) -> None:
        for outbox in self._outboxes.values():
            outbox.send(method, request)

    async def run(self, writes: Sequence[Write], effects: Sequence[Any]) -> None:
        """Write, then act. Returns when both have happened. RemoteError when the store failed; the cluster then goes on
        from memory, because its nodes have to stay in step with the tables."""
        if self._storage.is_volatile:
            self._act(effects)
            return
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._backlog.append((writes, effects, done))
        if self._saver is None or self._saver.done():
            self._saver = asyncio.get_running_loop().create_task(self._save())
        await asyncio.shield(done)

    async def drain(self, timeout_s: float) -> None:
        """Wait for deliveries that are under way."""
        tasks = [outbox.task for outbox in self._outboxes.values() if outbox.task is not None]
        if tasks:
            await asyncio.wait(tasks, timeout=timeout_s)

    async def close(self) -> None:
        """Finish writing, drop what nodes have not been told."""
        if self._saver is not None and not self._saver.done():
            await asyncio.wait([self._saver])
        for node_id in list(self._outboxes):
            self.remove_node(node_id)
        if self._closings:
            await asyncio.wait(list(self._closings))

    async def _save(self) -> None:
        while self._backlog:
            batch, self._backlog = self._backlog, []
            failure: RemoteError | None = None
            try:
                await self._storage.write([write for writes, _, _ in batch for write in writes])
            except OSError as error:
                logger.exception("The GCS could not write to its store; the cluster goes on from memory.")
                failure = RemoteError("RaySystemError", f"The GCS could not write this down: {error}")
            for _, effects, done in batch:
                self._act(effects)
                if done.cancelled():
                    continue
                if failure is None:
                    done.set_result(None)
                else:
                    done.set_exception(failure)

    def _act(self, effects: Sequence[Any]) -> None:
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
