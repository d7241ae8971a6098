"""Node watch: asks the GCS what has changed among the nodes, and keeps this node's view of them.

Two questions, each with a cursor of its own. One about who joined or died is always out, and is answered when somebody does.
One about what nodes have free is asked when somebody here waits, soon and then less and less often; while nobody does, now
and then in a small cluster and never in a large one, where its answers would be most of the traffic. Carries, and decides
nothing: what answers mean is in ``core/node/node_view``.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterable
from typing import Any

from raybook.core.node.node_view import Cursor, NodeDied, NodeDrains, NodeView
from raybook.io.channel import RemoteError
from raybook.protocol.messages.gcs import NodesDelta, WatchNodes
from raybook.raylet.gcs_link import RETRY_MS, GcsLink

logger = logging.getLogger(__name__)

HOLD_MS = 15_000
"""A question about who is there is asked anew after this."""
LOOK_S = 1.0
"""How old amounts may be while nobody waits, with ``IDLE_LOOKS_NODES_MAX`` nodes at most."""
IDLE_LOOKS_NODES_MAX = 100
LOOK_SOON_S = 0.05
"""And right after somebody began to; then less and less often."""


class NodeWatch:
    """on_view: the nodes have changed, or what they have free was looked at. on_dead(died). on_draining(node_id): it
    takes no more work. is_waiting: whether somebody
    here would gain by a fresh view. grace_ms: how long nodes may take to find a GCS that was started anew."""

    def __init__(self, node_id: bytes, grace_ms: int) -> None:
        self.view = NodeView(grace_ms)
        self.on_view: Callable[[], None] = lambda: None
        self.on_dead: Callable[[NodeDied], None] = lambda died: None
        self.on_draining: Callable[[bytes], None] = lambda node_id: None
        self.is_waiting: Callable[[], bool] = lambda: False
        self._node_id = node_id
        self._tasks: list[asyncio.Task[None]] = []
        self._timer: asyncio.TimerHandle | None = None
        self._wake = asyncio.Event()

    def start(self, gcs: GcsLink) -> None:
        """Watch from now on."""
        self._tasks = [gcs.spawn(self._follow_members(gcs)), gcs.spawn(self._look_at_amounts(gcs))]

    def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        if self._timer is not None:
            self._timer.cancel()

    def look_soon(self) -> None:
        """Somebody waits: look at what nodes have free now."""
        self._wake.set()

    async def _follow_members(self, gcs: GcsLink) -> None:
        cursor = Cursor()
        while True:
            delta = await self._ask(gcs, cursor, hold_ms=HOLD_MS)
            if delta is None:
                await asyncio.sleep(RETRY_MS / 1000)
            elif self._tell(self.view.apply(cursor, delta, _now_ms())):
                self.on_view()
            self._arm()

    async def _look_at_amounts(self, gcs: GcsLink) -> None:
        cursor = Cursor()
        pause_s = 0.0
        while True:
            if self.is_waiting() or len(self.view) <= IDLE_LOOKS_NODES_MAX:
                delta = await self._ask(gcs, cursor, hold_ms=0)
                if delta is not None:
                    self._tell(self.view.apply(cursor, delta, _now_ms()))
                    self.view.take_back_guesses(cursor, delta.newest)
                    self.on_view()
                    if delta.newest > delta.version:
                        pause_s = LOOK_SOON_S  # There is more to hear.
            self._wake.clear()
            try:
                await asyncio.wait_for(self._wake.wait(), pause_s or LOOK_SOON_S)
                await asyncio.sleep(LOOK_SOON_S / 10)
                pause_s = LOOK_SOON_S
            except (TimeoutError, asyncio.TimeoutError):
                # Who waits long is looked for less and less often: a backlog of an hour needs no twenty looks a second.
                pause_s = min(1.2 * pause_s, LOOK_S / 4) if self.is_waiting() else LOOK_S

    async def _ask(self, gcs: GcsLink, cursor: Cursor, hold_ms: int) -> NodesDelta | None:
        is_look = not hold_ms
        request = WatchNodes(self._node_id, cursor.epoch, cursor.since, hold_ms, amounts=is_look)
        try:
            delta: NodesDelta = await gcs.call("WatchNodes", request)
        except (RemoteError, ConnectionError) as error:
            logger.debug("The nodes are not known: %s", error)
            return None
        return delta

    def _arm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        deadline_ms = self.view.next_deadline_ms()
        if deadline_ms is not None:
            wait_s = max(0, deadline_ms - _now_ms()) / 1000
            self._timer = asyncio.get_running_loop().call_later(wait_s, self._elapse)

    def _elapse(self) -> None:
        if self._tell(self.view.elapse(_now_ms())):
            self.on_view()
        self._arm()

    def _tell(self, happened: Iterable[Any]) -> bool:
        """Whether anything has happened."""
        has_news = False
        for event in happened:
            has_news = True
            if isinstance(event, NodeDied):
                self.on_dead(event)
            elif isinstance(event, NodeDrains):
                self.on_draining(event.node_id)
        return has_news


def _now_ms() -> int:
    return time.monotonic_ns() // 1_000_000
