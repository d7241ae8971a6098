"""The WebSocket `{base_url}raybook/ws`: every pane and view of a page over one connection.

    page → {"op": "subscribe", "sub": n, "cluster": id, "panel": name, "filter": {…}, "since": v, "epoch": e}
           {"op": "unsubscribe", "sub": n} · {"op": "watch-clusters"} · {"op": "unwatch-clusters"}
    here → {"sub": n, "version": v, "epoch": e, "snapshot": state}, then "delta" in its place, at most four a second
           {"sub": n, "error": {"what": …, "next": …}, "final": bool} · {"op": "clusters", "clusters": [record, …]}

A page that reads slowly gets fewer and larger deltas: nothing is queued for it.
"""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
from jupyter_core.utils import ensure_async
from jupyter_server.auth.decorator import ws_authenticated
from jupyter_server.base.handlers import JupyterHandler
from jupyter_server.base.websocket import WebSocketMixin
from tornado import web, websocket

from raybook.observe import Filter
from raybook_kernel.server.cluster_list import ClusterList
from raybook_kernel.server.panel_channel import PanelChannel
from raybook_kernel.server.upstreams import Upstream, Upstreams

SUBSCRIPTIONS_MAX = 200
"""Of one page; more is a mistake of its own."""
MESSAGE_BYTES_MAX = 64 * 1024


class Wish(msgspec.Struct):
    """What a page sends."""

    op: str
    sub: int = 0
    cluster: str = ""
    panel: str = "overview"
    filter: Filter = Filter()
    since: int | None = None
    epoch: str | None = None


class Subscription:
    """One panel of one page: knows which version it has sent. See ``upstreams.Reader``."""

    def __init__(self, socket: PanelSocket, number: int, since: int | None, epoch: str | None) -> None:
        self._socket = socket
        self._number = number
        self._since = since
        self._epoch = epoch
        self._sending: asyncio.Future[Any] | None = None
        self._failed = ""
        self.upstream: Upstream | None = None

    def offer(self, channel: PanelChannel) -> None:
        if self._sending is not None and not self._sending.done():
            return
        body = channel.message_for(self._since, self._epoch)
        if body is not None:
            self._sending = self._socket.send(b'{"sub":%d,' % self._number + body)
            self._since, self._epoch, self._failed = channel.version, channel.epoch, ""

    def fail(self, what: str, next_step: str, final: bool) -> None:
        if final or what != self._failed:
            self._failed = what
            error = {"sub": self._number, "error": {"what": what, "next": next_step}, "final": final}
            self._socket.send(msgspec.json.encode(error))

    def end(self) -> None:
        if self.upstream is not None:
            self.upstream.remove(self)


class PanelSocket(WebSocketMixin, websocket.WebSocketHandler, JupyterHandler):
    """One page."""

    auth_resource = "kernels"

    def initialize(self, upstreams: Upstreams, clusters: ClusterList) -> None:
        self._upstreams = upstreams
        self._clusters = clusters
        self._subscriptions: dict[int, Subscription] = {}

    @property
    def max_message_size(self) -> int:
        return MESSAGE_BYTES_MAX

    def get_compression_options(self) -> dict[str, Any]:
        """Rows are mostly names of fields. Level 1: half the processor time of the default."""
        return {"compression_level": 1}

    @ws_authenticated
    async def get(self, *args: Any, **kwargs: Any) -> None:
        user = self.current_user
        if not await ensure_async(self.authorizer.is_authorized(self, user, "read", self.auth_resource)):
            raise web.HTTPError(403)
        await super().get(*args, **kwargs)

    def on_message(self, message: str | bytes) -> None:
        try:
            wish = msgspec.json.decode(message, type=Wish)
        except msgspec.MsgspecError as error:
            self.send(msgspec.json.encode({"op": "error", "error": {"what": f"Not understood: {error}", "next": ""}}))
            return
        if wish.op == "subscribe":
            self._subscribe(wish)
        elif wish.op == "unsubscribe":
            self._unsubscribe(wish.sub)
        elif wish.op == "watch-clusters":
            self._clusters.add(self._tell_clusters)
        elif wish.op == "unwatch-clusters":
            self._clusters.remove(self._tell_clusters)

    def on_close(self) -> None:
        self._clusters.remove(self._tell_clusters)
        for number in list(self._subscriptions):
            self._unsubscribe(number)

    def send(self, text: bytes) -> asyncio.Future[Any] | None:
        """None when the page is gone."""
        try:
            return asyncio.ensure_future(_quietly(self.write_message(text.decode())))
        except websocket.WebSocketClosedError:
            return None

    def _subscribe(self, wish: Wish) -> None:
        self._unsubscribe(wish.sub)
        subscription = Subscription(self, wish.sub, wish.since, wish.epoch)
        if len(self._subscriptions) >= SUBSCRIPTIONS_MAX:
            subscription.fail(f"This page follows {SUBSCRIPTIONS_MAX} panels already.", "Close some.", True)
            return
        upstream = self._upstreams.of(wish.cluster)
        if upstream is None:
            subscription.fail(
                f"There is no cluster {wish.cluster!r} (any more).", "The sidebar lists those that run.", True
            )
            return
        subscription.upstream = upstream
        try:
            upstream.add(subscription, wish.panel, wish.filter)
        except ValueError as error:
            subscription.fail(str(error), "", True)
            return
        self._subscriptions[wish.sub] = subscription

    def _unsubscribe(self, number: int) -> None:
        known = self._subscriptions.pop(number, None)
        if known is not None:
            known.end()

    def _tell_clusters(self, body: bytes) -> None:
        self.send(body)


async def _quietly(sending: Any) -> None:
    """A page may leave while it is written to."""
    try:
        await sending
    except websocket.WebSocketClosedError:
        return
