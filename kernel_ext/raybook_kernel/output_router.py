"""Output router: brings what workers print under the cell that was running when they printed it.

Facts come on the engine's thread and are only queued there; the panels' thread writes, with the cell's parent header in
each message. Between cells, lines go to the last cell.
"""

from __future__ import annotations

import uuid
from collections import deque
from collections.abc import Iterable
from typing import Any

from raybook_kernel.log_stream import LogStream
from raybook_widgets import Channel

QUEUE_MAX = 20_000
"""Lines waiting for the next tick; beyond it the oldest are dropped (the worker logs have them)."""


class OutputRouter:
    """One kernel's worker output."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self._stream = LogStream()
        self._queue: deque[dict[str, Any]] = deque(maxlen=QUEUE_MAX)
        self._cell: dict[str, Any] = {}
        self._fold_display_id = ""

    def begin_cell(self) -> None:
        """A cell begins: what is printed from now on is its own. Main thread."""
        self.flush()
        self._cell = self._channel.parent()
        self._stream.begin_cell()
        self._fold_display_id = ""

    def take(self, facts: Iterable[Any], is_snapshot: bool) -> None:
        """Facts of one delta, on the engine's thread. A snapshot's lines were printed before we looked: skipped."""
        if not is_snapshot:
            self._queue.extend(fact.row for fact in facts if fact.kind == "log" and fact.row is not None)

    def flush(self) -> None:
        """Write what is queued. One message for each stream."""
        rows = [self._queue.popleft() for _ in range(len(self._queue))]
        if not rows:
            return
        parent = self._cell or self._channel.parent()
        for stream, text in self._stream.render(rows).items():
            self._channel.stream(text, stream, parent)
        folded = self._stream.folded_text()
        if folded:
            is_update = bool(self._fold_display_id)
            self._fold_display_id = self._fold_display_id or f"raybook-fold-{uuid.uuid4().hex}"
            self._channel.display({"text/plain": folded}, self._fold_display_id, is_update, parent)
