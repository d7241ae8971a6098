"""gRPC form of services and channels: the same structs, carried as the protobuf messages with the same field names.

Structs are turned into messages and back by field name, from plans made once for each type, so a method is added in two
places only: the METHODS table and the .proto file (a contract test compares them). Every call carries the cluster's
token, compared in constant time before its request is parsed. Importing this module imports grpc (100 ms), so whoever
may not need it imports this module late.

Weak: a field that an older peer does not send arrives as protobuf's zero, not as the struct's default.
"""

from __future__ import annotations

import asyncio
import hmac
import types
import typing
from collections.abc import Callable, Mapping
from typing import Any

import grpc
import msgspec
from google.protobuf.message import DecodeError, Message

from raybook.io.channel import RemoteError, Service
from raybook.protocol.messages import gcs as gcs_messages
from raybook.protocol.messages import node as node_messages
from raybook.protocol.proto import gcs_pb2, raylet_pb2

Methods = Mapping[str, tuple[type, type]]

TOKEN_KEY = "raybook-token"
ERROR_CODE_KEY = "raybook-error-code"
ERROR_TEXT_CHARS_MAX = 4_000
"""Error texts travel in HTTP/2 trailers, whose size peers limit to 8 KiB."""

MESSAGE_BYTES_MAX = 512 * 1024 * 1024
"""An actor's creation may carry large closures; gRPC's own limit is 4 MiB."""

CALL_TIMEOUT_S = 30.0
RECONNECT_MS = 200
RECONNECT_MAX_MS = 1_000
"""gRPC backs off to two minutes; a raylet should find a restarted GCS within a second."""

SERVICES: dict[str, tuple[Methods, Any]] = {
    "Gcs": (gcs_messages.METHODS, gcs_pb2),
    "Raylet": (node_messages.METHODS, raylet_pb2),
}
"""Service name → its methods, and the module with its messages."""

_PACK = msgspec.msgpack.Encoder().encode
_UNPACK = msgspec.msgpack.Decoder().decode


class FieldPlan(msgspec.Struct):
    """How one field crosses: ``fill(message, value)`` and ``read(message) → value``."""

    name: str
    fill: Callable[[Message, Any], None]
    read: Callable[[Message], Any]


class Converter:
    """Structs ⇄ messages by equal field names. TypeError at construction time of a plan for a type it cannot carry."""

    def __init__(self) -> None:
        self._plans: dict[type, list[FieldPlan]] = {}

    def fill(self, message: Message, struct: Any) -> Message:
        """Write every field of the struct into an empty message."""
        message.SetInParent()
        for field in self._plan(type(struct)):
            field.fill(message, getattr(struct, field.name))
        return message

    def read(self, message: Message, struct_type: type) -> Any:
        """A struct from a message."""
        return struct_type(**{field.name: field.read(message) for field in self._plan(struct_type)})

    def _plan(self, struct_type: type) -> list[FieldPlan]:
        plan = self._plans.get(struct_type)
        if plan is None:
            plan = [self._field(field.name, field.type) for field in msgspec.structs.fields(struct_type)]
            self._plans[struct_type] = plan
        return plan

    def _field(self, name: str, kind: Any) -> FieldPlan:
        origin, arguments = typing.get_origin(kind), typing.get_args(kind)
        if origin in (types.UnionType, typing.Union):
            return self._optional(name, next(a for a in arguments if a is not types.NoneType))
        if _is_struct(kind):
            return FieldPlan(
                name,
                lambda message, value: self.fill(getattr(message, name), value) and None,
                lambda message: self.read(getattr(message, name), kind),
            )
        if origin is dict:
            return FieldPlan(
                name,
                lambda message, value: getattr(message, name).update(value),
                lambda message: dict(getattr(message, name)),
            )
        if origin is list:
            return self._repeated(name, arguments[0])
        if kind in (int, str, bytes, bool, float):
            return FieldPlan(
                name, lambda message, value: setattr(message, name, value), lambda message: getattr(message, name)
            )
        raise TypeError(f"Field {name}: {kind} has no form in protobuf.")

    def _optional(self, name: str, kind: Any) -> FieldPlan:
        if typing.get_origin(kind) is dict:  # A free-form row.
            return FieldPlan(
                name,
                lambda message, value: None if value is None else setattr(message, name, _PACK(value)),
                lambda message: _UNPACK(getattr(message, name)) if message.HasField(name) else None,
            )
        inner = self._field(name, kind)
        return FieldPlan(
            name,
            lambda message, value: None if value is None else inner.fill(message, value),
            lambda message: inner.read(message) if message.HasField(name) else None,
        )

    def _repeated(self, name: str, kind: Any) -> FieldPlan:
        if _is_struct(kind):
            return self._repeated_struct(name, kind)
        if typing.get_origin(kind) is tuple:
            return self._repeated_tuple(name, typing.get_args(kind))
        return FieldPlan(
            name,
            lambda message, value: getattr(message, name).extend(value),
            lambda message: list(getattr(message, name)),
        )

    def _repeated_struct(self, name: str, kind: type) -> FieldPlan:
        def fill(message: Message, value: Any) -> None:
            for item in value:
                self.fill(getattr(message, name).add(), item)

        return FieldPlan(name, fill, lambda message: [self.read(item, kind) for item in getattr(message, name)])

    def _repeated_tuple(self, name: str, kinds: tuple[Any, ...]) -> FieldPlan:
        """Tuples cross as messages whose fields, in the order of their numbers, are the tuple's places."""

        def places(message: Message) -> list[FieldPlan]:
            fields = sorted(message.DESCRIPTOR.fields, key=lambda field: field.number)
            return [self._field(field.name, kind) for field, kind in zip(fields, kinds, strict=True)]

        def fill(message: Message, value: Any) -> None:
            for item in value:
                part = getattr(message, name).add()
                for place, element in zip(places(part), item, strict=True):
                    place.fill(part, element)

        def read(message: Message) -> list[tuple[Any, ...]]:
            return [tuple(place.read(part) for place in places(part)) for part in getattr(message, name)]

        return FieldPlan(name, fill, read)


def _is_struct(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, msgspec.Struct)


def message_class(name: str) -> type[Message]:
    """The protobuf class of a struct's name. KeyError naming it when no .proto file has one."""
    for module in (gcs_pb2, raylet_pb2):
        found = getattr(module, name, None)
        if found is not None:
            return found
    raise KeyError(f"No .proto file has a message {name}.")


class RpcServer:
    """A listening gRPC server. ``address`` is host:port as it was bound."""

    def __init__(self, server: Any, address: str) -> None:
        self._server = server
        self.address = address

    async def stop(self, grace_s: float = 0.0) -> None:
        """Refuse new calls, cut running ones after ``grace_s``."""
        await self._server.stop(grace_s)


async def serve_grpc(service: Service, name: str, address: str, token: bytes) -> RpcServer:
    """Serve ``SERVICES[name]`` at ``host:port`` (port 0: any free one). OSError when it cannot be bound."""
    methods, _ = SERVICES[name]
    converter = Converter()
    proof = token.hex().encode()
    handlers = {
        method: grpc.unary_unary_rpc_method_handler(_handler(service, method, request_type, converter, proof))
        for method, (request_type, _) in methods.items()
    }
    server = grpc.aio.server(options=_options() + [("grpc.so_reuseport", 0)])
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(f"raybook.{name}", handlers),))
    host, _, _ = address.rpartition(":")
    try:
        port = server.add_insecure_port(address)
    except RuntimeError as error:
        raise OSError(f"Cannot listen for gRPC at {address}: {error}") from error
    if port == 0:
        raise OSError(f"Cannot listen for gRPC at {address}.")
    await server.start()
    return RpcServer(server, f"{host}:{port}")


def _handler(
    service: Service, method: str, request_type: type, converter: Converter, proof: bytes
) -> Callable[[bytes, Any], Any]:
    request_class = message_class(request_type.__name__)

    async def handle(body: bytes, context: Any) -> bytes:
        shown = dict(context.invocation_metadata() or ()).get(TOKEN_KEY, "")
        if not hmac.compare_digest(str(shown).encode(), proof):
            await context.abort(grpc.StatusCode.UNAUTHENTICATED, "This cluster's token was not shown.")
        try:
            request = converter.read(request_class.FromString(body), request_type)
        except DecodeError as error:
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, f"This is no {request_type.__name__}: {error}")
        try:
            reply = await service.call(method, request)
        except RemoteError as error:
            context.set_trailing_metadata(((ERROR_CODE_KEY, error.code),))
            await context.abort(grpc.StatusCode.FAILED_PRECONDITION, error.text[:ERROR_TEXT_CHARS_MAX])
        message = converter.fill(message_class(type(reply).__name__)(), reply)
        return message.SerializeToString()

    return handle


class GrpcChannel:
    """Calls a service in another process. Make it on a running loop."""

    def __init__(self, name: str, address: str, token: bytes, timeout_s: float = CALL_TIMEOUT_S) -> None:
        self._methods, _ = SERVICES[name]
        self._name = name
        self._address = address
        self._metadata = ((TOKEN_KEY, token.hex()),)
        self._timeout_s = timeout_s
        self._converter = Converter()
        self._channel = self._connect()
        self._calls: dict[str, Any] = {}
        self._closings: set[asyncio.Task[None]] = set()

    def _connect(self) -> Any:
        return grpc.aio.insecure_channel(self._address, options=_options())

    def retarget(self, address: str) -> None:
        """Call the service at another address from now on, by a new connection. Calls that are under way end as they
        would have."""
        old, self._address = self._channel, address
        self._channel, self._calls = self._connect(), {}
        # None of them lasts longer, and cancelling one would look like the end of whoever waits for it.
        closing = asyncio.get_running_loop().create_task(old.close(self._timeout_s))
        self._closings.add(closing)
        closing.add_done_callback(self._closings.discard)

    async def call(self, method: str, request: Any) -> Any:
        """See ``io/channel``. Cost: about 0.5 ms on one machine."""
        call = self._calls.get(method)
        if call is None:
            call = self._calls[method] = self._channel.unary_unary(f"/raybook.{self._name}/{method}")
        message = self._converter.fill(message_class(type(request).__name__)(), request)
        try:
            body = await call(message.SerializeToString(), timeout=self._timeout_s, metadata=self._metadata)
        except grpc.aio.AioRpcError as error:
            raise self._error_of(method, error) from None
        reply_type = self._methods[method][1]
        return self._converter.read(message_class(reply_type.__name__).FromString(body), reply_type)

    async def close(self, grace_s: float = 0.0) -> None:
        for closing in self._closings:
            closing.cancel()
        await self._channel.close(grace_s or None)

    def _error_of(self, method: str, error: Any) -> Exception:
        status, text = error.code(), error.details() or ""
        if status is grpc.StatusCode.FAILED_PRECONDITION:
            trailers = dict(error.trailing_metadata() or ())
            return RemoteError(str(trailers.get(ERROR_CODE_KEY, "RaySystemError")), text)
        if status is grpc.StatusCode.UNAUTHENTICATED:
            return RemoteError("AuthenticationError", f"{self._name} at {self._address} refused the token.")
        if status in _UNREACHABLE:
            return ConnectionError(f"{self._name} at {self._address} did not answer {method}: {text}")
        return RemoteError("RaySystemError", f"{self._name} at {self._address} failed in {method}: {text}")


_UNREACHABLE = frozenset({grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.CANCELLED})


def _options() -> list[tuple[str, Any]]:
    return [
        ("grpc.max_receive_message_length", MESSAGE_BYTES_MAX),
        ("grpc.max_send_message_length", MESSAGE_BYTES_MAX),
        ("grpc.initial_reconnect_backoff_ms", RECONNECT_MS),
        ("grpc.min_reconnect_backoff_ms", RECONNECT_MS),
        ("grpc.max_reconnect_backoff_ms", RECONNECT_MAX_MS),
        ("grpc.enable_http_proxy", 0),
    ]
