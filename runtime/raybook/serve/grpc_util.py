"""RayServegRPCContext: what a deployment's method that takes ``grpc_context`` can read and set."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any


class RayServegRPCContext:
    """Of one call, at the replica; what is set on it goes back with the answer."""

    def __init__(self, metadata: Iterable[tuple[str, Any]], peer: str = "") -> None:
        self._metadata = list(metadata)
        self._peer = peer
        self._compression: Any = None
        self._code: Any = None
        self._details = ""
        self._trailing: list[tuple[str, Any]] = []

    def invocation_metadata(self) -> list[tuple[str, Any]]:
        """What the client sent along."""
        return self._metadata

    def request_id(self) -> str | None:
        """The client's ``request_id``, if it sent one."""
        return self._sent("request_id")

    def application(self) -> str | None:
        """Which application the client named."""
        return self._sent("application")

    def multiplexed_model_id(self) -> str | None:
        """Which model the client named."""
        return self._sent("multiplexed_model_id")

    def traceparent(self) -> str | None:
        """Of the client's trace."""
        return self._sent("traceparent")

    def tracestate(self) -> str | None:
        """Of the client's trace."""
        return self._sent("tracestate")

    def _sent(self, name: str) -> str | None:
        return next((value for key, value in self._metadata if key == name), None)

    def peer(self) -> str:
        """Where the call came from, as gRPC writes it."""
        return self._peer

    def auth_context(self) -> dict[str, Any]:
        """Empty: the port has no TLS."""
        return {}

    def peer_identities(self) -> None:
        """None: the port has no TLS."""

    def peer_identity_key(self) -> None:
        """None: the port has no TLS."""

    def set_compression(self, compression: Any) -> None:
        """Kept; answers are not compressed."""
        self._compression = compression

    def code(self) -> Any:
        """The status code that was set, if any."""
        return self._code

    def details(self) -> str:
        """The details that were set."""
        return self._details

    def trailing_metadata(self) -> list[tuple[str, Any]]:
        """What goes back to the client."""
        return self._trailing

    def set_code(self, code: Any) -> None:
        """A ``grpc.StatusCode``; of an answer, or of an error that is raised after."""
        self._code = code

    def set_details(self, details: str) -> None:
        """Words beside the code."""
        self._details = details

    def set_trailing_metadata(self, trailing_metadata: Iterable[tuple[str, Any]]) -> None:
        """Pairs that go back to the client."""
        self._trailing = list(trailing_metadata)

    def outcome(self) -> tuple[tuple[str, str] | None, list[tuple[str, Any]]]:
        """((code's name, details) or None, trailing metadata): the form in which it travels."""
        status = None if self._code is None else (getattr(self._code, "name", str(self._code)), self._details)
        return status, self._trailing
