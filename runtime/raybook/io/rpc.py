"""gRPC form of services and channels: the same structs, carried as the protobuf messages with the same field names.

Structs are turned into messages and back by field name, from plans made once for each type, so a method is added in two
places only: the METHODS table and the .proto file (a contract test compares them). Every call proves the cluster's token
before its request is received, and every answer does before it is read (``protocol/call_proof``). With ``Tls`` both sides
show certificates as well. Importing this module imports grpc (100 ms), so whoever may not need it imports this module late.

Weak: a field that an older peer does not send arrives as protobuf's zero, not as the struct's default.
"""

from __future__ import annotations

import asyncio
import socket
import types
import typing
from collections.abc import Callable, Mapping
from typing import Any

import grpc
import msgspec
from google.protobuf.message import DecodeError, Message

from raybook.base.versions import OWN, parse_versions, why_apart
from raybook.io.channel import RemoteError, Service
from raybook.io.tls import Tls
from raybook.io.transport import cannot_listen
from raybook.protocol.call_proof import is_call_allowed, is_its_reply, is_its_request, sign_call, sign_reply
from raybook.protocol.frames import UNDECODABLE
from raybook.protocol.messages import gcs as gcs_messages
from raybook.protocol.messages import node as node_messages
from raybook.protocol.proto import gcs_pb2, raylet_pb2

Methods = Mapping[str, tuple[type, type]]

VERSIONS_KEY = "raybook-versions"
CODE_TRAVELS = frozenset({"RegisterNode"})
"""Methods whose callers run the cluster's code, and need its Python for that; who only asks may have another."""
ERROR_CODE_KEY = "raybook-error-code"
ERROR_TEXT_CHARS_MAX = 4_000
"""Error texts travel in HTTP/2 trailers, whose size peers limit to 8 KiB."""

MESSAGE_BYTES_MAX = 512 * 1024 * 1024
"""An actor's creation may carry large closures; gRPC's own limit is 4 MiB."""

HANDSHAKE_TIMEOUT_MS = 10_000
"""Who connects and says nothing is let go after this; gRPC's own limit is two minutes."""
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

    def decode(self, body: bytes, struct_type: type) -> Any:
        """A struct from a message's bytes. ValueError for bytes that are none."""
        try:
            return self.read(message_class(struct_type.__name__).FromString(body), struct_type)
        except (DecodeError, *UNDECODABLE) as error:
            raise ValueError(f"This is no {struct_type.__name__}: {error}") from None

    def encode(self, struct: Any) -> bytes:
        """The bytes of its message."""
        return self.fill(message_class(type(struct).__name__)(), struct).SerializeToString()

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


async def serve_grpc(service: Service, name: str, address: str, token: bytes, tls: Tls | None = None) -> RpcServer:
    """Serve ``SERVICES[name]`` at ``host:port`` (port 0: any free one). OSError, saying why, when it cannot be bound."""
    methods, _ = SERVICES[name]
    converter = Converter()
    handlers = {
        method: grpc.unary_unary_rpc_method_handler(_handler(service, method, request_type, converter, token))
        for method, (request_type, _) in methods.items()
    }
    limits = [("grpc.so_reuseport", 0), ("grpc.server_handshake_timeout_ms", HANDSHAKE_TIMEOUT_MS)]
    server = grpc.aio.server(options=_options() + limits, interceptors=(_Gate(token),))
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(f"raybook.{name}", handlers),))
    host, _, wanted = address.rpartition(":")
    try:
        if tls is None:
            port = server.add_insecure_port(address)
        else:
            credentials = grpc.ssl_server_credentials([(tls.key, tls.cert)], tls.ca, require_client_auth=True)
            port = server.add_secure_port(address, credentials)
    except RuntimeError as error:
        raise _why_not_bound(host, wanted, error) from None
    if port == 0:
        raise _why_not_bound(host, wanted, None)
    await server.start()
    return RpcServer(server, f"{host}:{port}")


def _why_not_bound(host: str, port: str, error: RuntimeError | None) -> OSError:
    """gRPC says no more than that it failed, so the kernel is asked."""
    try:
        socket.create_server(
            (host.strip("[]"), int(port)), family=socket.AF_INET6 if ":" in host else socket.AF_INET
        ).close()
    except OSError as reason:
        return cannot_listen(reason, f"{host}:{port}", "--port")
    except ValueError:
        pass
    return OSError(f"Cannot listen for gRPC at {host}:{port}" + (f": {error}." if error else "."))


class _Gate(grpc.aio.ServerInterceptor):  # type: ignore[misc]  # grpc has no types
    """Refuses who does not know the token, or is of another version, before a byte of the request is received."""

    def __init__(self, token: bytes) -> None:
        self._token = token

    async def intercept_service(self, continuation: Any, details: Any) -> Any:
        metadata = dict(details.invocation_metadata or ())
        if not is_call_allowed(self._token, details.method, metadata):
            return _refusing(grpc.StatusCode.UNAUTHENTICATED, "This cluster's token was not shown.")
        shown = str(metadata.get(VERSIONS_KEY, ""))
        if shown != str(OWN):
            method = details.method.rpartition("/")[2]
            apart = why_apart(
                parse_versions(shown), OWN, _CALLERS.get(method, "the caller"), "this cluster", method in CODE_TRAVELS
            )
            if apart:
                return _refusing(grpc.StatusCode.FAILED_PRECONDITION, apart)
        return await continuation(details)


_CALLERS = {"RegisterNode": "the node"}


def _refusing(status: Any, text: str) -> Any:
    """A handler that reads nothing. As of a stream: a single request would be received first, all of it."""

    async def refuse(requests: Any, context: Any) -> None:
        await context.abort(status, text)

    return grpc.stream_unary_rpc_method_handler(refuse)


def _handler(
    service: Service, method: str, request_type: type, converter: Converter, token: bytes
) -> Callable[[bytes, Any], Any]:
    async def handle(body: bytes, context: Any) -> bytes:
        metadata = dict(context.invocation_metadata() or ())
        if not is_its_request(metadata, body):
            await context.abort(grpc.StatusCode.UNAUTHENTICATED, "The request is not the one that was signed.")
        try:
            request = converter.decode(body, request_type)
        except ValueError as error:
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, str(error)[:ERROR_TEXT_CHARS_MAX])
        try:
            reply = await service.call(method, request)
        except RemoteError as error:
            context.set_trailing_metadata(((ERROR_CODE_KEY, error.code),))
            await context.abort(grpc.StatusCode.FAILED_PRECONDITION, error.text[:ERROR_TEXT_CHARS_MAX])
        answer = converter.encode(reply)
        context.set_trailing_metadata(sign_reply(token, metadata, answer))
        return answer

    return handle


class GrpcChannel:
    """Calls a service in another process. Make it on a running loop."""

    def __init__(
        self, name: str, address: str, token: bytes, timeout_s: float = CALL_TIMEOUT_S, tls: Tls | None = None
    ) -> None:
        self._methods, _ = SERVICES[name]
        self._name = name
        self._address = address
        self._token = token
        self._timeout_s = timeout_s
        self._converter = Converter()
        self._tls = tls
        self._channel = self._connect()
        self._calls: dict[str, Any] = {}
        self._closings: set[asyncio.Task[None]] = set()

    def _connect(self) -> Any:
        tls = self._tls
        if tls is None:
            return grpc.aio.insecure_channel(self._address, options=_options())
        credentials = grpc.ssl_channel_credentials(tls.ca, tls.key, tls.cert)
        named = [("grpc.ssl_target_name_override", tls.name_of(self._address.rpartition(":")[0]))]
        return grpc.aio.secure_channel(self._address, credentials, options=_options() + named)

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
        path = f"/raybook.{self._name}/{method}"
        call = self._calls.get(method)
        if call is None:
            call = self._calls[method] = self._channel.unary_unary(path)
        body = self._converter.encode(request)
        nonce, proof = sign_call(self._token, path, body)
        try:
            pending = call(body, timeout=self._timeout_s, metadata=(*proof, (VERSIONS_KEY, str(OWN))))
            answer = await pending
            trailers = dict(await pending.trailing_metadata() or ())
        except grpc.aio.AioRpcError as error:
            raise self._error_of(method, error) from None
        if not is_its_reply(self._token, nonce, trailers, answer):
            raise ConnectionError(
                f"What answered {method} at {self._address} could not prove that it knows this cluster's token; its answer "
                f"was not read. Another program has that address now."
            )
        return self._converter.decode(answer, self._methods[method][1])

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
            return RemoteError(
                "AuthenticationError",
                f"{self._name} at {self._address} refused the token: it is another cluster's, or of an earlier one at this "
                f"address. Take the token file of the cluster that runs there now (in its session folder; --token-file).",
            )
        if status in _UNREACHABLE:
            return ConnectionError(
                f"{self._name} at {self._address} did not answer {method}: {text}.{_advice(text, self._tls is not None)}"
            )
        return RemoteError("RaySystemError", f"{self._name} at {self._address} failed in {method}: {text}")


def _advice(text: str, has_tls: bool) -> str:
    """What to do about an address that cannot be spoken with."""
    text = text.lower()
    hung_up = "socket closed" in text or "reset" in text
    if "certificate" in text or "ssl" in text or "handshake" in text or (has_tls and hung_up):
        return " Both sides need a certificate of the same authority, in date, and --tls-* (or RAY_USE_TLS) on both."
    if "refused" in text:
        return " Nobody listens there: check host and port (`raybook status` on the head shows them) and that it runs."
    if "resolution" in text or "dns" in text or "lookup" in text:
        return " There is no host of that name."
    if hung_up:
        return " Something else than a GCS listens there, or it uses TLS (--tls-*, RAY_USE_TLS) and this side does not."
    return ""


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
