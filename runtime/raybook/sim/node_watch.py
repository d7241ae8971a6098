"""Node watch: a simulated raylet's two questions to the GCS about the nodes: who is there, and what they have free.

As ``raylet/node_watch``, around the shipped ``core/node/node_view``; a question that would be held back is asked again soon
instead. Decides nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from raybook.core.node.node_view import Cursor, NodeDied, NodeDrains, NodeView
from raybook.protocol.messages.gcs import WatchNodes
from raybook.sim.calls import Refusal
from raybook.sim.timeline import Timer

if TYPE_CHECKING:
    from raybook.sim.node import Node

MEMBERS_US = 100_000
LOOK_US = 1_000_000
LOOK_SOON_US = 50_000


class NodeWatch:
    """on_view(), on_dead(died), on_draining(node_id), is_waiting(): as the shell has them."""

    def __init__(self, node: Node) -> None:
        self.view = NodeView(node.world.config.health_check_timeout_ms)
        self.on_view: Callable[[], None] = lambda: None
        self.on_dead: Callable[[NodeDied], None] = lambda died: None
        self.on_draining: Callable[[bytes], None] = lambda node_id: None
        self.is_waiting: Callable[[], bool] = lambda: False
        self._node = node
        self._timeline = node.world.timeline
        self._members, self._amounts = Cursor(), Cursor()
        self._pause_us = LOOK_US
        self._next_look: Timer | None = None
        self._is_looking = False

    def start(self) -> None:
        """Watch from now on."""
        self._ask_members()
        self._look()

    def look_soon(self) -> None:
        """Somebody waits."""
        self._pause_us = LOOK_SOON_US
        if not self._is_looking:
            self._look_after(LOOK_SOON_US // 10)

    def _ask_members(self) -> None:
        if self._node.is_alive:
            cursor = self._members
            request = WatchNodes(self._node.node_id, cursor.epoch, cursor.since)
            self._node.gcs.ask("WatchNodes", request, self._members_heard)

    def _members_heard(self, reply: Any) -> None:
        now_ms = self._timeline.now_ms
        has_news = False
        if reply is not None and not isinstance(reply, Refusal):
            has_news = self._tell(self.view.apply(self._members, reply, now_ms))
        has_news = self._tell(self.view.elapse(now_ms)) or has_news
        if has_news:
            self.on_view()
        self._timeline.after(MEMBERS_US, self._ask_members)

    def _look(self) -> None:
        if self._node.is_alive:
            self._is_looking = True
            cursor = self._amounts
            request = WatchNodes(self._node.node_id, cursor.epoch, cursor.since, amounts=True)
            self._node.gcs.ask("WatchNodes", request, self._amounts_heard)

    def _amounts_heard(self, reply: Any) -> None:
        self._is_looking = False
        if reply is not None and not isinstance(reply, Refusal):
            self._tell(self.view.apply(self._amounts, reply, self._timeline.now_ms))
            self.view.take_back_guesses(self._amounts, reply.newest)
            self.on_view()
        self.view.check_invariants()
        self._look_after(self._pause_us)
        self._pause_us = min(self._pause_us * 6 // 5, LOOK_US // 4) if self.is_waiting() else LOOK_US

    def _look_after(self, delay_us: int) -> None:
        if self._next_look is not None:
            self._next_look.cancel()
        self._next_look = self._timeline.after(delay_us, self._look)

    def _tell(self, happened: Iterable[Any]) -> bool:
        has_news = False
        for event in happened:
            has_news = True
            if isinstance(event, NodeDied) and self._node.is_alive:
                self.on_dead(event)
            elif isinstance(event, NodeDrains) and self._node.is_alive:
                self.on_draining(event.node_id)
        return has_news
