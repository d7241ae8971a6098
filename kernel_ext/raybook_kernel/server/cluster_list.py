"""Cluster list: tells pages when the registry has changed, while any page wants to know. One look every half second: a
small file and a /proc read for each cluster."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import msgspec

from raybook.observe.clusters import living_clusters
from raybook_kernel.server.records import public_record

LOOK_S = 0.5

Listener = Callable[[bytes], None]
"""Gets the JSON of ``{"op": "clusters", "clusters": [record, …]}``."""


class ClusterList:
    """One per server."""

    def __init__(self) -> None:
        self._listeners: list[Listener] = []
        self._task: asyncio.Task[None] | None = None
        self._told = b""

    def add(self, listener: Listener) -> None:
        """It is told at once, and of every change. Idempotent."""
        if listener in self._listeners:
            return
        self._listeners.append(listener)
        listener(_read())
        if self._task is None or self._task.done():
            self._task = asyncio.get_running_loop().create_task(self._watch())

    def remove(self, listener: Listener) -> None:
        """Idempotent."""
        if listener in self._listeners:
            self._listeners.remove(listener)

    def close(self) -> None:
        """When the server ends."""
        if self._task is not None:
            self._task.cancel()

    async def _watch(self) -> None:
        self._told = _read()
        while self._listeners:
            await asyncio.sleep(LOOK_S)
            now = _read()
            if now != self._told:
                self._told = now
                for listener in list(self._listeners):
                    listener(now)


def _read() -> bytes:
    return msgspec.json.encode({"op": "clusters", "clusters": [public_record(each) for each in living_clusters()]})
