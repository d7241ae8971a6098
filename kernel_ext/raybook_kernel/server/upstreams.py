"""Upstreams: one subscription for each cluster that somebody looks at, fanned out to every page.

The first reader opens the connection, and it closes a while after the last has gone. Holds nothing that cannot be asked
for again, so a restarted server has lost nothing: pages come back and get a snapshot. Runs on the server's loop; no thread
of ours.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Protocol

from raybook.observe import Feed, find_cluster
from raybook.observe.remote import ClusterSilent, CommandRefused, RemoteCluster

TICK_S = 0.25
"""Panels move four times a second (docs/decisions/0075)."""
RETRY_S = 1.0
LINGER_S = 20.0
"""A page that reloads finds the connection still here, and what was learnt by it (rates, curves)."""


class Reader(Protocol):
    """Who is sent to: one subscription of one socket."""

    def offer(self, feed: Feed) -> None:
        """There may be news. A reader that has not taken the last message yet leaves it for the next time."""

    def fail(self, what: str, next_step: str) -> None:
        """It is over, and why."""


class Upstream:
    """One cluster, for as long as somebody looks at it. gone: called once, when it is over."""

    def __init__(self, remote: RemoteCluster, gone: Callable[[], None]) -> None:
        self._remote = remote
        self._feed = Feed(remote, remote.record.title)
        self._gone = gone
        self._readers: list[Reader] = []
        self._idle_since: float | None = None
        self._wake = asyncio.Event()
        self._task = asyncio.get_running_loop().create_task(self._follow())

    def add(self, reader: Reader) -> None:
        """From now on ``reader`` is offered what there is; at once, if anything is known."""
        self._readers.append(reader)
        self._wake.set()
        if self._feed.version:
            reader.offer(self._feed)

    def remove(self, reader: Reader) -> None:
        """Idempotent."""
        if reader in self._readers:
            self._readers.remove(reader)

    async def _follow(self) -> None:
        try:
            while self._is_wanted():
                self._wake.clear()
                if not await self._look():
                    return
        finally:
            self._gone()
            await self._remote.close()

    async def _look(self) -> bool:
        """One tick; False when the cluster is over. A cluster is not asked while nobody looks: it tells of tasks only to
        those who do."""
        if not self._readers:
            await self._sleep(RETRY_S)
            return True
        try:
            await self._remote.read_facts()
        except (ClusterSilent, CommandRefused, OSError):
            return await self._silent()
        for reader in list(self._readers):
            reader.offer(self._feed)
        await asyncio.sleep(TICK_S)
        return True

    async def _silent(self) -> bool:
        """Not served yet, moved, busy, or over; only the registry knows."""
        record = find_cluster(self._remote.record.cluster_id)
        if record is None:
            self._feed.end("STOPPED")
            for reader in list(self._readers):
                reader.offer(self._feed)
                reader.fail(f"The cluster {self._remote.record.title} has ended.", "Its last state is shown.")
            return False
        if record.address != self._remote.record.address:
            self._remote.record = record
            await self._remote.close()
        await self._sleep(RETRY_S if record.address else TICK_S)
        return True

    async def _sleep(self, seconds: float) -> None:
        """Until somebody comes, but no longer."""
        try:
            await asyncio.wait_for(self._wake.wait(), seconds)
        except asyncio.TimeoutError:
            return

    def _is_wanted(self) -> bool:
        if self._readers:
            self._idle_since = None
            return True
        now = asyncio.get_running_loop().time()
        if self._idle_since is None:
            self._idle_since = now
        return now - self._idle_since < LINGER_S


class Upstreams:
    """Every cluster that is looked at."""

    def __init__(self) -> None:
        self._open: dict[str, Upstream] = {}

    def of(self, cluster: str) -> Upstream | None:
        """By a cluster's id, name or address. None when there is none. Call it on a running loop."""
        record = find_cluster(cluster)
        if record is None:
            return None
        key = record.cluster_id
        upstream = self._open.get(key)
        if upstream is None:
            upstream = self._open[key] = Upstream(RemoteCluster(record), partial(self._forget, key))
        return upstream

    def _forget(self, key: str) -> None:
        self._open.pop(key, None)
