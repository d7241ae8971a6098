"""Direct ingress: a replica that is the only one answers connections itself, which its node's proxy hands to it.

The same uvicorn protocol and the same application as in the proxy, with one shortcut: a request for the own deployment,
while this replica is its only one, runs here without an actor call. Everything else (other prefixes, more replicas, a
replica that is ending) goes the proxy's way through routers. Invariant: what a replica gives back is idle, and unread.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import time
from typing import Any

import raybook.serve.http_replica  # noqa: F401 - the first request needs it; starlette takes its time to import.
from raybook.serve.context import RequestContext, request_context
from raybook.serve.exceptions import BackPressureError
from raybook.serve.handover import BYE, DONE, LEAVING, NOTED, HandoverLink
from raybook.serve.http_listener import Connections, PatientProtocol, config_of
from raybook.serve.proxy import REQUEST_ID_HEADER, ProxyApp, Receive, Send, reply, reply_error

logger = logging.getLogger("ray.serve")


class DirectApp(ProxyApp):
    """The proxy's application with a shortcut to this process's own deployment."""

    def __init__(self, options: dict[str, Any], replica: Any) -> None:
        super().__init__(options)
        self._replica = replica
        self._own = self._hub.router(replica.deployment_id)

    async def _answer(self, scope: dict[str, Any], receive: Receive, send: Send) -> None:
        found = self._route(scope)
        if found is None or found[1] is not self._own or not self._own.is_only(self._replica.unique_id):
            await super()._answer(scope, receive, send)
            return
        request_id, model_id, timeout_s = self._read_headers(scope["headers"])
        if self._is_too_large(scope["headers"]):
            await reply(send, 413, f"The body is larger than {self._body_bytes_max} bytes.".encode())
            return
        prefix = found[0]
        context = RequestContext(prefix, request_id, self._targets[prefix][0], model_id, None, True)
        if prefix != "/":
            scope["root_path"] = (scope.get("root_path") or "") + prefix
        begun = False

        async def send_named(message: dict[str, Any]) -> None:
            nonlocal begun
            if message["type"] == "http.response.start":
                begun = True
                message["headers"] = [*message.get("headers", ()), (REQUEST_ID_HEADER, request_id.encode())]
            await send(message)

        try:
            if timeout_s is None:
                await self._serve_here(context, scope, receive, send_named)
            else:
                await asyncio.wait_for(self._serve_here(context, scope, receive, send_named), timeout_s)
        except asyncio.TimeoutError:
            if not begun:
                await reply(send, 408, f"Request {request_id} timed out after {timeout_s}s.".encode())
        except Exception as error:  # noqa: BLE001 - every error of the deployment is an answer to the client.
            if not begun:
                await reply_error(send, error)

    def _is_too_large(self, headers: list[tuple[bytes, bytes]]) -> bool:
        size = next((value for name, value in headers if name == b"content-length"), b"0")
        return size.isdigit() and int(size) > self._body_bytes_max

    async def _serve_here(self, context: RequestContext, scope: dict[str, Any], receive: Receive, send: Send) -> None:
        replica = self._replica
        if replica._running >= replica._limit:
            most = self._own.max_queued
            if 0 <= most <= len(replica._line):
                raise BackPressureError(len(replica._line), most, *self._own.backpressure)
            await replica._enter()
        else:
            replica._running += 1
        start_s = time.perf_counter()
        error: BaseException | None = None
        request_context.set(context)
        try:
            await replica._http().serve(scope, receive, send)
        except BaseException as raised:
            error = raised
            raise
        finally:
            replica._leave()
            replica.log.note_http(("__call__", context.request_id), scope, start_s, error)


class DirectProtocol(PatientProtocol):
    """uvicorn's, for a connection that came by handover and may be given back. Whoever goes cancels his request."""

    _task: asyncio.Task[Any] | None = None
    _leaves_by: HandoverLink | None = None

    def _start_asgi_task(self, cycle: Any, app: Any) -> None:
        task = self._task = self.loop.create_task(cycle.run_asgi(app))
        task.add_done_callback(self.tasks.discard)
        self.tasks.add(task)

    def connection_lost(self, exc: Exception | None) -> None:
        if self.cycle is not None and not self.cycle.response_complete and self._task is not None:
            self._task.cancel()
        super().connection_lost(exc)

    def leave_by(self, link: HandoverLink) -> None:
        """Give the connection back: now, or else as soon as the running answer is out. A client that asks again at once
        leaves no other moment for it."""
        self._leaves_by = link
        if self.is_idle():
            self.give_back(link)

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if self._leaves_by is not None and self.is_idle():
            self.give_back(self._leaves_by)

    def is_idle(self) -> bool:
        """Between two requests, or before the first, with nothing read of the next."""
        if not self.has_begun:
            return True
        is_answered = self.cycle is not None and self.cycle.response_complete
        return is_answered and not self._is_reading and not self.pipeline

    def give_back(self, link: HandoverLink) -> bool:
        """Whether the other end has it now."""
        own = self.transport.get_extra_info("socket")
        if own is None or self.transport.is_closing() or self.transport.get_write_buffer_size():
            return False
        copy = socket.socket(fileno=os.dup(own.fileno()))
        if not link.give(copy):
            copy.close()
            return False
        self._forget()
        self._unset_keepalive_if_required()
        self.connections.discard(self)
        # Closes this process's descriptor; the connection lives on in the other's.
        self.transport.abort()
        return True


def load_http() -> None:
    """Import all that the first connection will need."""
    config_of(DirectApp, {}, DirectProtocol).load()


class DirectIngress:
    """Of one replica: the end of its links with proxies. end: gives the connections back."""

    def __init__(self, replica: Any) -> None:
        self._replica = replica
        self._links: list[HandoverLink] = []
        self._connections: Connections | None = None
        self._app: DirectApp | None = None
        self._noted = 0
        """Proxies that bring no more connections."""
        self._taken = 0
        """Proxies that have taken all connections back."""

    def link(self, link: socket.socket) -> None:
        """A proxy is at the other end of this."""
        made = HandoverLink(link, self._take, self._learn, lambda: self._links.remove(made))
        self._links.append(made)

    def _learn(self, told: Any) -> None:
        """The proxy's options and routes, or that it brings no more."""
        if told == NOTED:
            self._noted += 1
            return
        if told == BYE:
            self._taken += 1
            return
        if self._app is None:
            self._app = DirectApp(told["options"], self._replica)
            self._connections = Connections(self._app, told["options"], DirectProtocol)
        self._app.set_routes(told["routes"])

    def _take(self, connection: socket.socket) -> None:
        assert self._connections is not None
        self._connections.adopt(connection)

    async def end(self, wait_s: float) -> None:
        """Give every connection back as soon as it is idle; for so long, at most. The rest ends with the process."""
        end_s = time.monotonic() + wait_s
        for link in list(self._links):
            link.tell(LEAVING)
        while self._connections is not None and time.monotonic() < end_s:
            left = [each for each in self._connections.state.connections if isinstance(each, DirectProtocol)]
            for protocol in left:
                if self._links:
                    protocol.leave_by(self._links[0])
            # No more come from a proxy that has taken note, and what it gave before has been adopted.
            if not left and self._noted >= len(self._links) and not self._connections.is_adopting:
                break
            await asyncio.sleep(0.005)
        for link in list(self._links):
            link.tell(DONE)
        while self._links and self._taken < len(self._links) and time.monotonic() < end_s:
            await asyncio.sleep(0.002)
