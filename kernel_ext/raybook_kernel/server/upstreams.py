"""Upstreams: one subscription for each cluster that somebody looks at, fanned out to every page.

The first reader opens the connection, and it closes a while after the last has gone. Holds nothing that cannot be asked
for again, so a restarted server has lost nothing: pages come back with the version they have. Runs on the server's loop;
no thread of ours.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from collections.abc import Callable
from functools import partial
from typing import Protocol

import msgspec

from raybook.observe import WIDE_CAPS, Feed, Filter, View, find_cluster, panel_state
from raybook.observe.remote import ClusterSilent, CommandRefused, RemoteCluster
from raybook_kernel.server.panel_channel import PanelChannel

logger = logging.getLogger(__name__)

TICK_S = 0.25
"""Panels move four times a second (docs/decisions/0075)."""
RETRY_S = 1.0
LINGER_S = 20.0
"""A page that reloads finds the connection, and its version, still here."""


class Reader(Protocol):
    """Who is sent to: one subscription of one socket."""

    def offer(self, channel: PanelChannel) -> None:
        """There is news in this channel. A reader that has not taken the last message yet leaves it for the next time."""

    def fail(self, what: str, next_step: str, final: bool) -> None:
        """There is no news, and why. final: there will be none."""


class Upstream:
    """One cluster, for as long as somebody looks at it. gone: called once, when it is over."""

    def __init__(self, remote: RemoteCluster, gone: Callable[[], None]) -> None:
        self._remote = remote
        self._feed = Feed(remote, remote.record.title)
        self._gone = gone
        self._channels: dict[tuple[str, bytes], tuple[Filter, PanelChannel]] = {}
        self._readers: dict[Reader, PanelChannel] = {}
        self._view: View | None = None
        self._idle_since: float | None = None
        self._wake = asyncio.Event()
        self._task = asyncio.get_running_loop().create_task(self._follow())

    def add(self, reader: Reader, panel: str, wanted: Filter) -> None:
        """From now on ``reader`` is offered what this panel's channel has; at once, if anything is known. ValueError for a
        panel there is none of."""
        key = panel, msgspec.json.encode(wanted)
        known = self._channels.get(key)
        if known is not None:
            channel = known[1]
        else:
            panel_state(View(), panel)
            channel = PanelChannel(secrets.token_hex(4))
            self._channels[key] = wanted, channel
            if self._view is not None:
                channel.advance(panel_state(self._view, panel, _now_ms(), wanted))
        self._readers[reader] = channel
        self._idle_since = None
        self._wake.set()
        reader.offer(channel)

    def remove(self, reader: Reader) -> None:
        """Idempotent."""
        self._readers.pop(reader, None)

    def close(self) -> None:
        self._task.cancel()

    async def _follow(self) -> None:
        try:
            while self._is_wanted():
                if not await self._look():
                    return
                self._wake.clear()
        finally:
            self._gone()
            self._feed.end()
            await self._remote.close()

    async def _look(self) -> bool:
        """One tick; False when the cluster is over. A cluster is not asked while nobody looks: it tells of tasks only to
        those who do."""
        if not self._readers:
            await self._sleep(RETRY_S)
            return True
        try:
            changed = await self._remote.read_facts()
        except (ClusterSilent, CommandRefused, OSError) as error:
            return await self._silent(str(error))
        if changed or self._view is None or self._view.moving:
            self._show(self._feed.view(WIDE_CAPS))
        await asyncio.sleep(TICK_S)
        return True

    async def _silent(self, why: str) -> bool:
        record = find_cluster(self._remote.record.cluster_id)
        if record is None:
            self._feed.end("STOPPED")
            self._show(self._feed.view(WIDE_CAPS))
            for reader in list(self._readers):
                reader.fail(f"The cluster {self._remote.record.title} has ended.", "Its last state is shown.", True)
            return False
        if record.address != self._remote.record.address:
            self._remote.record = record
            await self._remote.close()
        elif record.address:
            for reader in list(self._readers):
                reader.fail(why, "It is asked again every second.", False)
        await self._sleep(RETRY_S if record.address else TICK_S)
        return True

    async def _sleep(self, seconds: float) -> None:
        """Until somebody comes, but no longer."""
        try:
            await asyncio.wait_for(self._wake.wait(), seconds)
        except asyncio.TimeoutError:
            return

    def _show(self, view: View) -> None:
        self._view = view
        now_ms = _now_ms()
        used = set(self._readers.values())
        for key, (wanted, channel) in list(self._channels.items()):
            channel.advance(panel_state(view, key[0], now_ms, wanted))
            if channel not in used and len(self._channels) > CHANNELS_IDLE_MAX:
                del self._channels[key]
        for reader, channel in list(self._readers.items()):
            reader.offer(channel)

    def _is_wanted(self) -> bool:
        if self._readers:
            self._idle_since = None
            return True
        now = asyncio.get_running_loop().time()
        if self._idle_since is None:
            self._idle_since = now
        return now - self._idle_since < LINGER_S


CHANNELS_IDLE_MAX = 12
"""Each filter that was ever typed is a channel; those that nobody reads go when there are more."""


class Upstreams:
    """Every cluster that is looked at."""

    def __init__(self) -> None:
        self._open: dict[str, Upstream] = {}

    def of(self, cluster: str) -> Upstream | None:
        """By a cluster's id, name or address. None when there is none. Make on a running loop."""
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

    def close(self) -> None:
        """When the server ends."""
        for upstream in list(self._open.values()):
            upstream.close()


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
