"""gRPC ingress: a server in the proxy for the services whose ``add_...Servicer_to_server`` functions the options name.

A call goes to the application that its metadata name (``application``; the only one, where there is one), and there to the
method of the ingress deployment that has the rpc's name; the request travels as the user's message, the answer as its
bytes. Unary and server-streaming calls. Also answers Ray's own service: Healthz and ListApplications.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from typing import Any

import grpc

from raybook.serve.assignment import REFUSED, Assignment
from raybook.serve.config import gRPCOptions
from raybook.serve.core.names import DeploymentID
from raybook.serve.exceptions import BackPressureError, DeploymentUnavailableError, gRPCStatusError
from raybook.serve.hub import current_hub

logger = logging.getLogger("ray.serve")
OWN_SERVICE = "/ray.serve.RayServeAPIService/"


class GrpcIngress:
    """Of one proxy."""

    def __init__(self, options: dict[str, Any]) -> None:
        self._options = options
        self._apps: dict[str, str] = {}
        """Application → ingress deployment."""
        self._hub = current_hub()
        self._server: Any = None

    def set_routes(self, routes: dict[str, tuple[str, str, str]]) -> None:
        """The same routes as HTTP's."""
        self._apps = {app: deployment for app, deployment, _ in routes.values()}

    async def listen(self, host: str) -> int:
        """Open the port; its number. RuntimeError when it is taken; ModuleNotFoundError for a function that there is not."""
        self._server = grpc.aio.server(options=(("grpc.so_reuseport", 1),))
        collector = _Collector()
        for add in gRPCOptions(**self._options).grpc_servicer_func_callable:
            add(_Anything(), collector)
        self._server.add_generic_rpc_handlers((_Dispatch(self, collector.handlers),))
        port = self._server.add_insecure_port(f"{host}:{self._options['port']}")
        await self._server.start()
        return port

    async def close(self) -> None:
        """Answer what has come, for two seconds at most."""
        if self._server is not None:
            await self._server.stop(2.0)

    # Calls

    def unary(self, name: str) -> Callable[..., Any]:
        """The behaviour of a method that answers once."""

        async def behave(request: Any, context: Any) -> bytes:
            assignment, router, timeout_s = await self._assign("handle_grpc", name, request, context)
            try:
                status, body, trailing = await asyncio.wait_for(_await(assignment), timeout_s)
            except BaseException as error:
                router.finish(assignment)
                await self._abort(context, error, assignment, timeout_s)
                raise
            router.finish(assignment)
            _apply(context, status, trailing)
            return body

        return behave

    def stream(self, name: str) -> Callable[..., Any]:
        """The behaviour of a method that answers in a stream."""

        async def behave(request: Any, context: Any) -> AsyncIterator[bytes]:
            assignment, router, timeout_s = await self._assign("handle_grpc_stream", name, request, context)
            try:
                await assignment.settled()
                if assignment.state == REFUSED:
                    raise assignment.error or RuntimeError("refused")
                async for ref in assignment.ref:
                    yield await ref
            except Exception as error:
                await self._abort(context, error, assignment, timeout_s)
                raise
            finally:
                router.finish(assignment)

        return behave

    async def _assign(self, verb: str, name: str, request: Any, context: Any) -> tuple[Assignment, Any, float | None]:
        metadata = {key: value for key, value in context.invocation_metadata() or ()}
        app = metadata.get("application", "")
        if not app and len(self._apps) == 1:
            app = next(iter(self._apps))
        deployment = self._apps.get(app)
        if deployment is None:
            words = f"Application '{app}' not found." if app else "Application metadata not set."
            await context.abort(
                grpc.StatusCode.NOT_FOUND, f"{words} Ping {OWN_SERVICE}ListApplications for available applications."
            )
        request_id = metadata.get("request_id") or self._hub.new_request_id()
        model_id = metadata.get("multiplexed_model_id", "")
        call = (name, request_id, model_id, "", app)
        facts = [(str(key), value) for key, value in metadata.items()]
        assignment = Assignment(verb, call, request_id, model_id, (request, facts, context.peer()), {})
        router = self._hub.router(DeploymentID(str(deployment), app))
        router.submit(assignment)
        context.set_trailing_metadata((("request_id", request_id),))
        return assignment, router, self._options.get("request_timeout_s")

    async def _abort(self, context: Any, error: BaseException, assignment: Assignment, timeout_s: float | None) -> None:
        if isinstance(error, gRPCStatusError):
            code = getattr(grpc.StatusCode, str(error.grpc_code), grpc.StatusCode.INTERNAL)
            await context.abort(code, error.grpc_details or str(error))
        if isinstance(error, asyncio.TimeoutError):
            words = f"Request {assignment.request_id} timed out after {timeout_s}s."
            await context.abort(grpc.StatusCode.DEADLINE_EXCEEDED, words)
        if isinstance(error, BackPressureError):
            await context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, error.message)
        if isinstance(error, DeploymentUnavailableError):
            await context.abort(grpc.StatusCode.UNAVAILABLE, error.message)
        if isinstance(error, Exception):
            await context.abort(grpc.StatusCode.INTERNAL, str(error))

    def own(self, method: str) -> bytes:
        """Answers of Ray's own service, as the bytes of its messages (one string, or a list of them, in field 1)."""
        texts = ["success"] if method == "Healthz" else list(self._apps)
        return b"".join(b"\x0a" + _varint(len(text.encode())) + text.encode() for text in texts)


class _Anything:
    """A servicer that has every method: only the handlers around it are of interest."""

    def __getattr__(self, name: str) -> Any:
        return lambda *args, **kwargs: None


class _Collector:
    """In place of a server: keeps what generated functions add to one."""

    def __init__(self) -> None:
        self.handlers: dict[str, Any] = {}

    def add_generic_rpc_handlers(self, handlers: Any) -> None:
        """Older generated code calls this alone."""
        for handler in handlers:
            self.handlers.update(getattr(handler, "_method_handlers", {}))

    def add_registered_method_handlers(self, service: str, handlers: dict[str, Any]) -> None:
        """Newer code calls this too, with the same."""
        self.handlers.update({f"/{service}/{name}": handler for name, handler in handlers.items()})


class _Dispatch(grpc.GenericRpcHandler):
    def __init__(self, ingress: GrpcIngress, handlers: dict[str, Any]) -> None:
        self._ingress = ingress
        self._handlers = handlers

    def service(self, handler_call_details: Any) -> Any:
        """The handler of one method; None for an unknown one, which grpc answers itself."""
        path = handler_call_details.method
        name = path.rpartition("/")[2]
        if path.startswith(OWN_SERVICE):
            answer = self._ingress.own(name)

            async def own(request: bytes, context: Any) -> bytes:
                return answer

            return grpc.unary_unary_rpc_method_handler(own)
        found = self._handlers.get(path)
        if found is None or found.request_streaming:
            return None
        if found.response_streaming:
            return grpc.unary_stream_rpc_method_handler(self._ingress.stream(name), found.request_deserializer)
        return grpc.unary_unary_rpc_method_handler(self._ingress.unary(name), found.request_deserializer)


async def _await(assignment: Assignment) -> Any:
    await assignment.settled()
    if assignment.state == REFUSED:
        raise assignment.error or RuntimeError("refused")
    return await assignment.ref


def _apply(context: Any, status: tuple[str, str] | None, trailing: list[tuple[str, str]]) -> None:
    """What the deployment set on its context."""
    if status is not None:
        context.set_code(getattr(grpc.StatusCode, status[0]))
        if status[1]:
            context.set_details(status[1])
    if trailing:
        context.set_trailing_metadata(tuple((key, value) for key, value in trailing))


def _varint(number: int) -> bytes:
    found = bytearray()
    while number > 127:
        found.append(number & 127 | 128)
        number >>= 7
    found.append(number)
    return bytes(found)
