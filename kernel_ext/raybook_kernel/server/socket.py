"""The WebSocket `{base_url}raybook/ws`: every pane and view of a page over one connection. Messages are JSON.

    page → {"op": "subscribe", "sub": n, "cluster": id, "panel": name, "filter": {…}}     again with the same sub: anew
           {"op": "unsubscribe", "sub": n} · {"op": "ping"}
    here → {"sub": n, "version": v, "now_ms": t, "snapshot": …}, then with "since" and "delta" (`observe/panels`), at most
           four a second · {"sub": n, "error": {"what": …, "next": …}}: this subscription is over
           {"op": "pong"}

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

from raybook.observe import Feed, PanelFilter, PanelStream
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
    filter: PanelFilter = PanelFilter()


class Subscription:
    """One panel of one page: what it has been sent. See ``upstreams.Reader``."""

    def __init__(self, socket: PanelSocket, number: int, stream: PanelStream) -> None:
        self._socket = socket
        self._number = number
        self._stream = stream
        self._sending: asyncio.Future[Any] | None = None
        self.upstream: Upstream | None = None

    def offer(self, feed: Feed) -> None:
        if self._sending is not None and not self._sending.done():
            return
        message = self._stream.message(feed)
        if message is not None:
            self._sending = self._socket.send({"sub": self._number, **message})

    def fail(self, what: str, next_step: str) -> None:
        self._socket.send({"sub": self._number, "error": {"what": what, "next": next_step}})
        self.end()

    def end(self) -> None:
        if self.upstream is not None:
            self.upstream.remove(self)


class PanelSocket(WebSocketMixin, websocket.WebSocketHandler, JupyterHandler):
    """One page."""

    auth_resource = "kernels"

    def initialize(self, upstreams: Upstreams) -> None:
        self._upstreams = upstreams
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
            self.send({"op": "error", "error": {"what": f"Not understood: {error}", "next": ""}})
            return
        if wish.op == "subscribe":
            self._subscribe(wish)
        elif wish.op == "unsubscribe":
            self._unsubscribe(wish.sub)
        elif wish.op == "ping":
            self.send({"op": "pong"})

    def on_close(self) -> None:
        for number in list(self._subscriptions):
            self._unsubscribe(number)

    def send(self, message: dict[str, Any]) -> asyncio.Future[Any] | None:
        """None when the page is gone; else done when the page has taken it."""
        try:
            return asyncio.ensure_future(_quietly(self.write_message(msgspec.json.encode(message))))
        except websocket.WebSocketClosedError:
            return None

    def _subscribe(self, wish: Wish) -> None:
        self._unsubscribe(wish.sub)
        if len(self._subscriptions) >= SUBSCRIPTIONS_MAX:
            self._refuse(wish.sub, f"This page follows {SUBSCRIPTIONS_MAX} panels already.", "Close some.")
            return
        try:
            stream = PanelStream(wish.panel, wish.filter)
        except ValueError as error:
            self._refuse(wish.sub, str(error), "")
            return
        upstream = self._upstreams.of(wish.cluster)
        if upstream is None:
            self._refuse(
                wish.sub, f"There is no cluster {wish.cluster!r} (any more).", "The sidebar lists those that run."
            )
            return
        subscription = self._subscriptions[wish.sub] = Subscription(self, wish.sub, stream)
        subscription.upstream = upstream
        upstream.add(subscription)

    def _refuse(self, number: int, what: str, next_step: str) -> None:
        self.send({"sub": number, "error": {"what": what, "next": next_step}})

    def _unsubscribe(self, number: int) -> None:
        known = self._subscriptions.pop(number, None)
        if known is not None:
            known.end()


async def _quietly(sending: Any) -> None:
    """A page may leave while it is written to."""
    try:
        await sending
    except websocket.WebSocketClosedError:
        return
