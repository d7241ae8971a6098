"""A GCS for raylet tests: remembers every call and answers with the smallest true reply."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from raybook.base.facts import Fact
from raybook.io.channel import RemoteError
from raybook.protocol.messages import gcs as messages


class FakeGcs:
    """``calls`` are (method, request) in order. ``actors`` answers WatchActors, ``refuse`` makes a method fail,
    and ``gates`` makes it wait."""

    def __init__(self, cluster_id: bytes = b"cluster!") -> None:
        self.cluster_id = cluster_id
        self.calls: list[tuple[str, Any]] = []
        self.actors: dict[bytes, messages.ActorInfo] = {}
        self.refuse: dict[str, RemoteError] = {}
        self.gates: dict[str, asyncio.Event] = {}
        self.facts: list[Fact] = []
        self.keys: dict[tuple[str, bytes], bytes] = {}
        self._changed = asyncio.Event()

    async def call(self, method: str, request: Any) -> Any:
        """The Service protocol of io/channel."""
        types: tuple[Any, Any] = messages.METHODS[method]
        assert isinstance(request, types[0]), f"{method} wants a {types[0].__name__}, got {request!r}."
        self.calls.append((method, request))
        self._changed.set()
        if method in self.gates:
            await self.gates[method].wait()
        if method in self.refuse:
            raise self.refuse[method]
        if method == "ClusterStatus":
            return messages.ClusterStatusReply(self.cluster_id, 0, [], 0, 0)
        if method == "ListNodes":
            reports = self.requests("ReportNode")
            registered = self.requests("RegisterNode")[0].node
            available = reports[-1].resources_available if reports else registered.resources_available
            return messages.NodeList([messages.NodeInfo(registered.node_id, resources_available=available)])
        if method == "WatchActors":
            found = [self.actors[actor_id] for actor_id in request.actor_ids if actor_id in self.actors]
            return messages.ActorList(found if request.watch else [])
        if method == "KvPut":
            self.keys[(request.namespace, request.key)] = request.value
            return messages.KvReply(added=True)
        if method == "KvGet":
            return messages.KvReply(value=self.keys.get((request.namespace, request.key)))
        if method == "AddFacts":
            self.facts += request.facts
        if method == "GetFacts":
            version = len(self.facts)
            return messages.FactsReply(request.since_version, version, self.facts[request.since_version :])
        return types[1]()

    def requests(self, method: str) -> list[Any]:
        """What was asked by this method so far."""
        return [request for name, request in self.calls if name == method]

    async def wait_for(
        self, method: str, wanted: Callable[[Any], bool] = lambda request: True, timeout_s: float = 10.0
    ) -> Any:
        """The first request of this method (past or future) that is wanted."""

        async def look() -> Any:
            while True:
                for request in self.requests(method):
                    if wanted(request):
                        return request
                self._changed.clear()
                await self._changed.wait()

        return await asyncio.wait_for(look(), timeout_s)
