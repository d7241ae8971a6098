"""The raylet's side of the GCS: reports, relayed calls, watched actors, facts. Carries, and decides nothing.

Reports of resources are coalesced: one is under way at a time, at least ``REPORT_INTERVAL_MS`` apart; a heartbeat goes
out when nothing else did. A GCS that came back without knowing this node is told again.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec

from raybook.base.config import Config
from raybook.base.facts import ACTOR_DEAD, Fact
from raybook.core.cluster.actor_record import death_text
from raybook.io.channel import Channel, RemoteError
from raybook.io.outbox import Outbox
from raybook.protocol.messages import gcs as messages
from raybook.protocol.messages.raylet import ActorUpdate, FactsDelta, GcsCall, GcsReply
from raybook.raylet.clients import Client, ClientTable

logger = logging.getLogger(__name__)

REPORT_INTERVAL_MS = 10
UNSENT_BYTES_MAX = 1 << 20
"""A subscriber that is this far behind gets no more deltas until it has read."""
RETRY_MS = 200
"""While the GCS is away; a restarted one is found within a fifth of a second."""
RECONNECT_S = 60.0
"""A question waits this long for a GCS that is away (Ray: ``gcs_rpc_server_reconnect_timeout_s``)."""
JOIN_S = 5.0
KEEPS_ORDER = frozenset(
    {
        "CreateActor",
        "KillActor",
        "GetNamedActor",
        "CreatePlacementGroup",
        "RemovePlacementGroup",
        "GetPlacementGroup",
        "GetPlacementGroups",
    }
)
"""Relayed calls that must not overtake, or be overtaken by, what this node tells or one another."""
READS_RESOURCES = frozenset({"ListNodes", "ClusterStatus"})
"""Methods before which this node's amounts are brought up to date."""


class GcsLink:
    """node: this node's registration. report: how things stand. refresh: asks leased workers whether they
    are idle; awaited before methods that read resources. disowned: the GCS holds this node for dead."""

    def __init__(
        self,
        config: Config,
        channel: Channel,
        node: messages.NodeInfo,
        clients: ClientTable,
        report: Callable[[], messages.ReportNode],
        refresh: Callable[[], Awaitable[None]],
        disowned: Callable[[str], None],
    ) -> None:
        self._config = config
        self._channel = channel
        self._node = node
        self._clients = clients
        self._report = report
        self._refresh = refresh
        self._disowned = disowned
        self.on_registered_again: Callable[[], None] = lambda: None
        """The GCS has been away, and knows this node again."""
        self._loop = asyncio.get_running_loop()
        self._tasks: set[asyncio.Task[Any]] = set()
        self._dirty = False
        self._reporter: asyncio.Task[None] | None = None
        self._facts_task: asyncio.Task[None] | None = None
        self._latest: dict[bytes, messages.ActorInfo] = {}
        """Newest pushed row of each watched actor."""
        self._watchers: dict[bytes, dict[bytes, Client]] = {}
        """Actor → clients here that watch it, by id: what a thousand actors are told must not be a walk over all."""
        self._closed = False
        self._outbox = Outbox(channel, self._try_again)

    # --- calls --------------------------------------------------------------------------------------------------------

    async def call(self, method: str, request: Any) -> Any:
        """A call of our own. RemoteError, ConnectionError."""
        return await self._channel.call(method, request)

    def tell(self, method: str, request: Any) -> None:
        """A call whose answer nobody waits for. What was told arrives in order, also at a GCS that was away meanwhile;
        a refusal is logged."""
        self._outbox.send(method, request, lambda reply: _log_refusal(method, reply))

    def _try_again(self) -> None:
        logger.debug("The GCS is out of reach; trying again in %d ms.", RETRY_MS)
        self._loop.call_later(RETRY_MS / 1000, self._resume)

    def _resume(self) -> None:
        if not self._closed:
            self._outbox.resume()

    def found_again(self) -> None:
        """A GCS that was started anew has spoken to us: do not wait for the next try."""
        self._resume()
        self.resources_changed()

    def relay(self, client: Client, message: GcsCall) -> None:
        """A client's call. Those that change actors keep their order with what is told and wait for a GCS that is away;
        others do so for ``RECONNECT_S``."""
        types = messages.METHODS.get(message.method)
        try:
            if types is None:
                raise RemoteError("ValueError", f"The GCS has no method {message.method!r}.")
            request: Any = msgspec.msgpack.decode(message.request, type=types[0])
        except RemoteError as error:
            client.connection.send(_answer(message, error))
        except msgspec.MsgspecError as error:
            text = f"The request of a {message.method} call does not decode: {error}"
            client.connection.send(_answer(message, RemoteError("ValueError", text)))
        else:
            if message.method in KEEPS_ORDER:
                self._outbox.send(
                    message.method, request, lambda reply: client.connection.send(_answer(message, reply))
                )
            else:
                self.spawn(self._relay(client, message, request))

    async def _relay(self, client: Client, message: GcsCall, request: Any) -> None:
        give_up = self._loop.time() + RECONNECT_S
        while True:
            try:
                if message.method in READS_RESOURCES:
                    await self._refresh()
                    await self._report_once()
                reply = await self._channel.call(message.method, request)
                break
            except RemoteError as error:
                reply = error
                break
            except ConnectionError as error:
                reply = RemoteError("RaySystemError", f"The GCS has been out of reach for {RECONNECT_S:g} s: {error}")
                if self._loop.time() >= give_up:
                    break
            await asyncio.sleep(RETRY_MS / 1000)
        client.connection.send(_answer(message, reply))

    # --- resources ----------------------------------------------------------------------------------------------------

    async def join(self) -> bytes:
        """Register for the first time; the cluster's id. A GCS that is away is waited for, as one that was killed is back
        within ``JOIN_S``. RemoteError when the node is refused, ConnectionError."""
        give_up = self._loop.time() + JOIN_S
        while True:
            try:
                status = await self._channel.call("ClusterStatus", messages.ClusterStatus())
                await self.register()
                return status.cluster_id
            except ConnectionError:
                if self._loop.time() >= give_up:
                    raise
            await asyncio.sleep(RETRY_MS / 1000)

    async def register(self) -> None:
        """Make the node known. Raises RemoteError when it is refused."""
        self._node.resources_available = self._report().resources_available
        await self._channel.call("RegisterNode", messages.RegisterNode(self._node))
        if self._watchers:
            request = messages.WatchActors(self._node.node_id, list(self._watchers))
            for info in (await self._channel.call("WatchActors", request)).actors:
                self.actor_changed(info)
        if self._reporter is None:
            self._reporter = self.spawn(self._report_for_ever())
            self._wake = asyncio.Event()

    def begin_draining(self, why: str) -> None:
        """From now on the node says so wherever it registers: the GCS may have been started anew meanwhile."""
        self._node.draining = why

    def resources_changed(self) -> None:
        """Report soon."""
        self._dirty = True
        if self._reporter is not None:
            self._wake.set()

    async def _report_for_ever(self) -> None:
        while True:
            try:
                await asyncio.wait_for(self._wake.wait(), self._config.health_check_period_ms / 1000)
            except (TimeoutError, asyncio.TimeoutError):
                self._dirty = True
            self._wake.clear()
            await self._report_once()
            await asyncio.sleep(REPORT_INTERVAL_MS / 1000)

    async def _report_once(self) -> None:
        if not self._dirty:
            return
        self._dirty = False
        try:
            await self._channel.call("ReportNode", self._report())
        except RemoteError as error:
            if error.code == "UnknownNode":
                logger.info("The GCS does not know this node any more; registering again.")
                await self._register_again()
            else:
                logger.warning("The GCS refused a report: %s", error)
        except ConnectionError as error:
            logger.warning("The GCS cannot be reached: %s", error)

    async def _register_again(self) -> None:
        try:
            await self.register()
            self.on_registered_again()
        except RemoteError as error:
            # Its actors run elsewhere by now: going on would mean two of each.
            logger.error("The GCS refuses this node: %s", error)
            self._disowned(error.text)
        except ConnectionError as error:
            logger.warning("The GCS cannot be reached: %s", error)

    # --- actors -------------------------------------------------------------------------------------------------------

    def watch(self, client: Client, actor_id: bytes, watch: bool) -> None:
        """A client wants an actor's states from now on, or no more."""
        if watch:
            client.watched[actor_id] = True
            self._watchers.setdefault(actor_id, {})[client.client_id] = client
            # In order with creations: a question that overtook one would be told that there is no such actor.
            request = messages.WatchActors(self._node.node_id, [actor_id])
            self._outbox.send("WatchActors", request, lambda reply: self._watched(client, actor_id, reply))
        elif actor_id in client.watched:
            self.unwatch(client, [actor_id])

    def unwatch(self, client: Client, actor_ids: list[bytes]) -> None:
        """A client of ours looks away: tell the GCS about those nobody else here watches."""
        unwatched = []
        for actor_id in actor_ids:
            client.watched.pop(actor_id, None)
            watchers = self._watchers.get(actor_id, {})
            watchers.pop(client.client_id, None)
            if not watchers:
                self._watchers.pop(actor_id, None)
                self._latest.pop(actor_id, None)
                unwatched.append(actor_id)
        if unwatched:
            self.tell("WatchActors", messages.WatchActors(self._node.node_id, unwatched, watch=False))

    def _watched(self, client: Client, actor_id: bytes, reply: Any) -> None:
        if isinstance(reply, RemoteError):
            logger.warning("Watching actor %s failed: %s", actor_id.hex(), reply)
            return
        for info in reply.actors:
            # A push that overtook this reply is newer than it.
            client.connection.send(_update_of(self._latest.get(info.actor_id, info)))

    def actor_changed(self, info: messages.ActorInfo) -> None:
        """The GCS pushed a row."""
        watchers = self._watchers.get(info.actor_id)
        if watchers:
            self._latest[info.actor_id] = info
            update = _update_of(info)
            for client in watchers.values():
                client.connection.send(update)

    # --- facts --------------------------------------------------------------------------------------------------------

    def publish(self, facts: list[Fact]) -> None:
        if facts:
            self.spawn(self._offer(messages.AddFacts(facts)))

    async def _offer(self, request: messages.AddFacts) -> None:
        """Facts are worth one attempt: later ones replace them."""
        try:
            await self._channel.call("AddFacts", request)
        except (RemoteError, ConnectionError) as error:
            logger.warning("The GCS did not take %d facts: %s", len(request.facts), error)

    def subscribe(self, client: Client, since_version: int, active: bool) -> None:
        """Send a client what changes in the event table, or stop."""
        client.facts_since = since_version if active else None
        if active and self._facts_task is None:
            self._facts_task = self.spawn(self._feed())

    async def _feed(self) -> None:
        while True:
            subscribers = [client for client in self._clients if client.facts_since is not None]
            if not subscribers:
                break
            for version in dict.fromkeys(client.facts_since for client in subscribers):
                await self._feed_since(version or 0, [c for c in subscribers if c.facts_since == version])
            await asyncio.sleep(self._config.fact_interval_ms / 1000)
        self._facts_task = None

    async def _feed_since(self, version: int, subscribers: list[Client]) -> None:
        try:
            reply = await self._channel.call("GetFacts", messages.GetFacts(version))
        except (RemoteError, ConnectionError) as error:
            logger.warning("Reading facts failed: %s", error)
            return
        if reply.version == version and not reply.reset:
            return
        delta = FactsDelta(reply.since, reply.version, reply.facts, reply.reset)
        for client in subscribers:
            if client.connection.framed.unsent_bytes < UNSENT_BYTES_MAX:
                client.connection.send(delta)
                client.facts_since = reply.version

    # --- life ---------------------------------------------------------------------------------------------------------

    def spawn(self, work: Any) -> asyncio.Task[Any]:
        """Run a coroutine on the side; its failure is logged, and ``close`` ends it."""
        task = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            logger.error("A step towards the GCS failed.", exc_info=task.exception())

    async def close(self) -> None:
        """Finish what was told, stop everything that repeats. The channel belongs to whoever made it."""
        for repeating in (self._reporter, self._facts_task):
            if repeating is not None:
                repeating.cancel()
        self._closed = True
        await self._outbox.drain(timeout_s=0.2)
        await self._outbox.close()
        if self._tasks:
            await asyncio.wait(list(self._tasks), timeout=0.2)
        for task in list(self._tasks):
            task.cancel()


def _answer(message: GcsCall, reply: Any) -> GcsReply:
    if isinstance(reply, RemoteError):
        return GcsReply(message.call_id, error_code=reply.code, error_text=reply.text)
    return GcsReply(message.call_id, msgspec.msgpack.encode(reply))


def _log_refusal(method: str, reply: Any) -> None:
    if isinstance(reply, RemoteError):
        logger.warning("The GCS refused a %s: %s", method, reply)


def _update_of(info: messages.ActorInfo) -> ActorUpdate:
    return ActorUpdate(
        info.actor_id,
        info.state,
        info.endpoint,
        info.incarnation,
        info.restarts_left,
        death_text(info) if info.state == ACTOR_DEAD else info.death,
        info.death_payload,
        info.pid,
        info.death_code,
        info.moving,
    )
