"""Proxy: the actor that listens for HTTP on one node and hands requests to replicas.

Requests take the way of handles: one router a deployment, replicas called directly. A request is one actor call with the
scope and the whole body, its answer (status, headers, body); answers that are streams, and WebSockets, are a second call
whose items are ASGI messages. What cannot be delivered is answered here: 404 no route, 413 body too large, 408 too slow,
503 nobody to answer or queue full, 500 the rest.
"""

from __future__ import annotations

import asyncio
import json
import logging
import math
from collections.abc import Awaitable, Callable
from typing import Any

from raybook.api import cancel as cancel_ref
from raybook.api import get as get_value
from raybook.api.object_ref import engine_of
from raybook.exceptions import ActorDiedError, ActorUnavailableError, RayTaskError
from raybook.serve.assignment import REFUSED, WAITING, Assignment
from raybook.serve.core.names import DeploymentID
from raybook.serve.core.routes import RouteTable
from raybook.serve.doors import Doors
from raybook.serve.exceptions import BackPressureError, DeploymentUnavailableError, RayServeException
from raybook.serve.hub import current_hub
from raybook.serve.router import Router

logger = logging.getLogger("ray.serve")
BODY_BYTES_MAX = 1 << 30
PATIENCE_S = 0.05
"""Answers that take longer are worth watching whether the client still waits."""
MODEL_HEADER = b"serve_multiplexed_model_id"
REQUEST_ID_HEADER = b"x-request-id"
TEXT = b"text/plain; charset=utf-8"
_SENT_SCOPE = ("type", "http_version", "method", "scheme", "path", "raw_path", "query_string", "headers", "server",
               "client", "subprotocols")  # fmt: skip
Send = Callable[[dict[str, Any]], Awaitable[None]]
Receive = Callable[[], Awaitable[dict[str, Any]]]


class ClientGone(Exception):
    """The client closed the connection before its answer."""


class ProxyApp:
    """The ASGI application of a proxy, or of a replica that listens itself."""

    def __init__(self, options: dict[str, Any]) -> None:
        self._timeout_s = options.get("request_timeout_s")
        self._body_bytes_max = options.get("max_body_bytes") or BODY_BYTES_MAX
        self._table = RouteTable({})
        self._targets: dict[str, tuple[str, str, str]] = {}
        self._routers: dict[str, Router] = {}
        self._hub = current_hub()
        self.requests = 0

    def set_routes(self, routes: dict[str, tuple[str, str, str]]) -> None:
        """prefix → (application, ingress deployment, kind)."""
        routes = self._targets = {prefix: target for prefix, target in routes.items() if prefix.startswith("/")}
        self._table = RouteTable({prefix: prefix for prefix in routes})
        self._routers = {
            prefix: self._hub.router(DeploymentID(deployment, app)) for prefix, (app, deployment, _) in routes.items()
        }

    async def __call__(self, scope: dict[str, Any], receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            await self._answer(scope, receive, send)
        elif scope["type"] == "websocket":
            await self._converse(scope, receive, send)

    def _route(self, scope: dict[str, Any]) -> tuple[str, Router] | None:
        path = scope["path"][len(scope.get("root_path") or "") :] or "/"
        found = self._table.match(path)
        return None if found is None else (found[0], self._routers[found[0]])

    async def _answer(self, scope: dict[str, Any], receive: Receive, send: Send) -> None:
        path = scope["path"]
        if path.startswith("/-/"):
            if path == "/-/healthz":
                await reply(send, 200, b"success")
                return
            if path == "/-/routes":
                routes = {prefix: target[0] for prefix, target in self._targets.items()}
                await reply(send, 200, json.dumps(routes).encode(), b"application/json")
                return
        found = self._route(scope)
        if found is None:
            text = f"Path '{path}' not found. Ping http://.../-/routes for available routes."
            await reply(send, 404, text.encode())
            return
        self.requests += 1
        prefix, router = found
        request_id, model_id, timeout_s = self._read_headers(scope["headers"])
        body = await self._read_body(receive)
        if body is None:
            await reply(send, 413, f"The body is larger than {self._body_bytes_max} bytes.".encode())
            return
        app_name = self._targets[prefix][0]
        call = ("__call__", request_id, model_id, prefix, app_name)
        assignment = Assignment("handle_http", call, request_id, model_id, (self._scope(scope, prefix), body), {})
        router.submit(assignment)
        is_begun = False
        try:
            answer = await self._wait(router, assignment, receive, timeout_s)
            if type(answer) is str:
                is_begun = True
                await self._relay(router, assignment, answer, receive, send, request_id)
                return
            router.finish(assignment)
            status, headers, content = answer
            await send(
                {
                    "type": "http.response.start",
                    "status": status,
                    "headers": [*headers, (REQUEST_ID_HEADER, request_id.encode())],
                }
            )
            await send({"type": "http.response.body", "body": content})
        except ClientGone:
            self._abandon(router, assignment)
        except asyncio.CancelledError:
            self._abandon(router, assignment)
            raise
        except asyncio.TimeoutError:
            self._abandon(router, assignment)
            await reply(send, 408, f"Request {request_id} timed out after {timeout_s}s.".encode())
        except Exception as error:  # noqa: BLE001 - every error of the other side is an answer to the client.
            self._note_failure(router, assignment, error)
            if not is_begun:
                await reply_error(send, error)

    def _note_failure(self, router: Router, assignment: Assignment, error: Exception) -> None:
        if isinstance(error, (ActorDiedError, ActorUnavailableError)) and not isinstance(error, RayTaskError):
            router.drop(assignment.slot)
        router.finish(assignment)
        if not isinstance(error, (BackPressureError, DeploymentUnavailableError)):
            logger.warning("Request %s failed: %s", assignment.request_id, error)

    def _read_headers(self, headers: list[tuple[bytes, bytes]]) -> tuple[str, str, float | None]:
        request_id, model_id, timeout_s = "", "", self._timeout_s
        for name, value in headers:
            if name == REQUEST_ID_HEADER:
                request_id = value.decode("latin-1")
            elif name == MODEL_HEADER or name == b"serve-multiplexed-model-id":
                model_id = value.decode("latin-1")
            elif name == b"x-request-timeout-seconds":
                try:
                    asked_s = float(value)
                    timeout_s = asked_s if asked_s > 0 else timeout_s
                except ValueError:
                    pass
        return request_id or self._hub.new_request_id(), model_id, timeout_s

    async def _read_body(self, receive: Receive) -> bytes | None:
        """All of it; None when it is too large."""
        message = await receive()
        body = message.get("body", b"")
        if not message.get("more_body"):
            return body if len(body) <= self._body_bytes_max else None
        parts, size = [body], len(body)
        while message.get("more_body"):
            message = await receive()
            if message["type"] == "http.disconnect":
                raise ClientGone
            parts.append(message.get("body", b""))
            size += len(parts[-1])
            if size > self._body_bytes_max:
                return None
        return b"".join(parts)

    def _scope(self, scope: dict[str, Any], prefix: str) -> dict[str, Any]:
        kept = {name: scope[name] for name in _SENT_SCOPE if name in scope}
        kept["root_path"] = (scope.get("root_path") or "") + ("" if prefix == "/" else prefix)
        return kept

    # One answer

    async def _wait(self, router: Router, assignment: Assignment, receive: Receive, timeout_s: float | None) -> Any:
        """The replica's answer. ClientGone when the client went first; asyncio.TimeoutError."""
        if assignment.state == WAITING:
            return await self._watch(assignment, receive, timeout_s)
        if assignment.state == REFUSED:
            raise assignment.error or RayServeException("The request was refused.")
        patience_s = PATIENCE_S if timeout_s is None else min(PATIENCE_S, timeout_s)
        if await until_ready_or_late(assignment.ref, patience_s):
            return get_value(assignment.ref)
        return await self._watch(assignment, receive, None if timeout_s is None else timeout_s - patience_s)

    async def _watch(self, assignment: Assignment, receive: Receive, timeout_s: float | None) -> Any:
        """The same for what takes long, which is worth two more tasks."""
        work = asyncio.ensure_future(_result(assignment))
        gone = asyncio.ensure_future(_disconnected(receive))
        try:
            await asyncio.wait(
                [work, gone],
                timeout=None if timeout_s is None else max(0.0, timeout_s),
                return_when=asyncio.FIRST_COMPLETED,
            )
            if work.done():
                return work.result()
            if gone.done():
                raise ClientGone
            raise asyncio.TimeoutError
        finally:
            gone.cancel()
            work.cancel()

    def _abandon(self, router: Router, assignment: Assignment) -> None:
        """Nobody waits for this any more: the work is cancelled."""
        assignment.is_cancelled = True
        if assignment.state == WAITING:
            router.cancel(assignment)
        elif assignment.ref is not None:
            cancel_ref(assignment.ref, recursive=False)
        router.finish(assignment)

    async def _relay(
        self, router: Router, assignment: Assignment, name: str, receive: Receive, send: Send, request_id: str
    ) -> None:
        """An answer in pieces."""
        slot = assignment.slot
        stream = slot.method("http_stream").remote(name)
        gone = asyncio.ensure_future(_disconnected(receive))
        try:
            while True:
                step = asyncio.ensure_future(_next(stream))
                await asyncio.wait([step, gone], return_when=asyncio.FIRST_COMPLETED)
                if not step.done():
                    step.cancel()
                    raise ClientGone
                messages = step.result()
                if messages is None:
                    return
                for message in messages:
                    if message["type"] == "http.response.start":
                        message["headers"] = [*message["headers"], (REQUEST_ID_HEADER, request_id.encode())]
                    await send(message)
        except (ClientGone, asyncio.CancelledError):
            slot.method("http_event").remote(name, {"type": "http.disconnect"})
            cancel_ref(stream, recursive=False)
            raise
        finally:
            gone.cancel()
            router.finish(assignment)

    # WebSockets

    async def _converse(self, scope: dict[str, Any], receive: Receive, send: Send) -> None:
        found = self._route(scope)
        if found is None:
            await receive()
            await send({"type": "websocket.close", "code": 1000})
            return
        prefix, router = found
        request_id, model_id, _ = self._read_headers(scope["headers"])
        call = ("__call__", request_id, model_id, prefix, self._targets[prefix][0])
        assignment = Assignment("websocket", call, request_id, model_id, (self._scope(scope, prefix),), {})
        router.submit(assignment)
        try:
            await assignment.settled()
            if assignment.state == REFUSED:
                raise assignment.error or RayServeException("The request was refused.")
            told = asyncio.ensure_future(self._forward(assignment, request_id, receive))
            try:
                while (messages := await _next(assignment.ref)) is not None:
                    for message in messages:
                        await send(message)
            finally:
                told.cancel()
        except asyncio.CancelledError:
            self._abandon(router, assignment)
            raise
        except Exception as error:  # noqa: BLE001 - the other side's error closes the connection.
            self._note_failure(router, assignment, error)
            await send({"type": "websocket.close", "code": 1011, "reason": "Internal Server Error"})
        finally:
            router.finish(assignment)

    async def _forward(self, assignment: Assignment, name: str, receive: Receive) -> None:
        event = assignment.slot.method("http_event")
        while True:
            message = await receive()
            event.remote(name, message)
            if message["type"] == "websocket.disconnect":
                return


class HttpProxy:
    """The actor. is_first: the port must be nobody else's."""

    def __init__(self, http: dict[str, Any], grpc: dict[str, Any], is_first: bool) -> None:
        self._options = http
        self._grpc_options = grpc
        self._is_first = is_first
        self._app: ProxyApp | None = None
        self._doors: Any = None
        self._listener: Any = None
        self._grpc: Any = None
        self._grpc_port = 0

    async def listen(self) -> dict[str, Any]:
        """Open the ports; where. RayServeException when one is taken."""
        if self._listener is None:
            # Not at the top: the controller imports this module and needs neither uvicorn nor starlette nor gRPC.
            from raybook.serve.http_listener import HttpListener

            self._app = ProxyApp(self._options)
            self._doors = Doors(self._options)
            listener = HttpListener(self._app, self._options, self._doors.place)
            self._doors.on_returned = listener.take
            listener.listen(self._is_first)
            self._listener = listener
            if self._grpc_options.get("grpc_servicer_functions"):
                from raybook.serve.grpc_ingress import GrpcIngress

                self._grpc = GrpcIngress(self._grpc_options)
                self._grpc_port = await self._grpc.listen(self._options["host"])
        return {"host": self._options["host"], "port": self._listener.port, "grpc_port": self._grpc_port}

    async def update_routes(self, routes: dict[str, tuple[str, str, str]], doors: dict[str, str]) -> None:
        """What is served from now on, and by which doors single replicas take connections. A proxy that has started again
        listens first."""
        if self._listener is None:
            self._is_first = False
            await self.listen()
        assert self._app is not None
        self._app.set_routes(routes)
        self._doors.update(routes, doors)
        if self._grpc is not None:
            self._grpc.set_routes(routes)

    async def drain(self) -> None:
        """Stop listening; requests that run are answered."""
        if self._listener is not None:
            await self._listener.close()
        if self._grpc is not None:
            await self._grpc.close()

    async def check_health(self) -> bool:
        """True."""
        return True


async def until_ready_or_late(ref: Any, patience_s: float) -> bool:
    """Await a result for so long: whether it is there. One future and one timer, no task."""
    loop = asyncio.get_running_loop()
    future: asyncio.Future[bool] = loop.create_future()

    def settle(is_there: bool) -> None:
        if not future.done():
            future.set_result(is_there)

    def on_ready() -> None:
        if not loop.is_closed():
            loop.call_soon_threadsafe(settle, True)

    engine_of(ref).when_ready(ref, on_ready)
    timer = loop.call_later(patience_s, settle, False)
    try:
        return await future
    finally:
        timer.cancel()


async def _result(assignment: Assignment) -> Any:
    if assignment.state == WAITING:
        await assignment.settled()
    if assignment.state == REFUSED:
        raise assignment.error or RayServeException("The request was refused.")
    return await assignment.ref


async def _next(stream: Any) -> Any:
    """The next messages of a stream; None at its end."""
    try:
        ref = await stream.__anext__()
    except StopAsyncIteration:
        return None
    return await ref


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def reply(
    send: Send, status: int, body: bytes, content_type: bytes = TEXT, headers: tuple[tuple[bytes, bytes], ...] = ()
) -> None:
    """An answer of the proxy's own."""
    fixed = [(b"content-type", content_type), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": [*fixed, *headers]})
    await send({"type": "http.response.body", "body": body})


async def reply_error(send: Send, error: Exception) -> None:
    """What an error means in HTTP."""
    if isinstance(error, BackPressureError):
        after = error.retry_after_s
        headers = () if after is None else ((b"retry-after", str(max(0, math.ceil(after))).encode()),)
        await reply(send, error.status_code, error.message.encode(), headers=headers)
    elif isinstance(error, DeploymentUnavailableError):
        await reply(send, 503, error.message.encode())
    else:
        await reply(send, 500, b"Internal Server Error")
