"""A channel calls a service's methods by name with structs; whether across a function call or gRPC is not visible.

``LocalChannel`` is the function call of the embedded head. The gRPC form lives in ``io/rpc`` and is imported only where
daemons sit in different processes, because grpc costs 100 ms of start-up.
"""

from __future__ import annotations

from typing import Any, Protocol


class RemoteError(Exception):
    """The service refused or failed. ``code`` is an exception class name of base/errors, ``text`` is for people."""

    def __init__(self, code: str, text: str) -> None:
        super().__init__(text)
        self.code = code
        self.text = text


class Service(Protocol):
    """What a daemon offers: one coroutine for all its methods. Raises RemoteError for refusals."""

    async def call(self, method: str, request: Any) -> Any: ...


class Channel(Protocol):
    """The caller's side. Raises RemoteError for refusals, ConnectionError when the service is out of reach."""

    async def call(self, method: str, request: Any) -> Any: ...

    async def close(self, grace_s: float = 0.0) -> None:
        """Calls under way get ``grace_s`` to end; then they are cancelled, and so is whoever awaits them."""


class LocalChannel:
    """Service and caller on one event loop: a function call."""

    def __init__(self, service: Service) -> None:
        self._service = service

    async def call(self, method: str, request: Any) -> Any:
        return await self._service.call(method, request)

    async def close(self, grace_s: float = 0.0) -> None:
        pass
