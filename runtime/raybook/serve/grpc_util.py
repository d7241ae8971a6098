"""RayServegRPCContext: what a deployment's method that takes ``grpc_context`` can read and set."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any


class RayServegRPCContext:
    """Of one call, at the replica; what is set on it goes back with the answer."""

    def __init__(self, metadata: Iterable[tuple[str, Any]]) -> None:
        self._metadata = list(metadata)
        self._code: Any = None
        self._details = ""
        self._trailing: list[tuple[str, Any]] = []

    def invocation_metadata(self) -> list[tuple[str, Any]]:
        """What the client sent along."""
        return self._metadata

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
