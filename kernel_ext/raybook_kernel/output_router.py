"""Output router: brings what workers print under the cell that started the work.

Facts come on the engine's thread and are only queued there; the panels' thread writes, with that cell's parent header
in each message. Which cell: the one that ran when the printing task began, as far as facts tell; else the one that runs
now (or ran last). A line whose task is not known yet waits one tick for its name, and no longer.
"""

from __future__ import annotations

import time
import uuid
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from raybook.observe import WorkerNote
from raybook_kernel.log_stream import LogStream
from raybook_widgets import Channel

QUEUE_MAX = 20_000
"""Lines waiting for the next tick; beyond it the oldest are dropped (the worker logs have them)."""
CELLS_KEPT = 64
CLOCK_SLACK_MS = 5.0
"""Task times are whole milliseconds of another process's clock."""


class CellOutput:
    """One cell's place on the page."""

    def __init__(self, parent: dict[str, Any], started_ms: float) -> None:
        self.parent = parent
        self.started_ms = started_ms
        self.stream = LogStream()
        self.fold_display_id = ""


class OutputRouter:
    """One kernel's worker output. workers: what each process does (``Feed.workers``). ask_again: have ``flush`` called
    once more soon."""

    def __init__(
        self, channel: Channel, workers: Callable[[], Mapping[int, WorkerNote]], ask_again: Callable[[], None]
    ) -> None:
        self._channel = channel
        self._workers = workers
        self._ask_again = ask_again
        self._queue: deque[dict[str, Any]] = deque(maxlen=QUEUE_MAX)
        self._taken: dict[str, None] = {}
        """Keys of the latest lines: a second subscriber in this process makes the head send a snapshot to all."""
        self._held: list[dict[str, Any]] = []
        self._cells: deque[CellOutput] = deque(maxlen=CELLS_KEPT)
        self._takes_snapshots = False

    def begin_cluster(self, is_ours: bool) -> None:
        """Lines of another cluster follow. is_ours: it was this kernel's from the first moment, so that the lines of a
        snapshot are this kernel's, too."""
        self._taken.clear()
        self._takes_snapshots = is_ours

    def begin_cell(self) -> None:
        """A cell begins: what tasks print that begin from now on is its own. Main thread."""
        self._cells.append(CellOutput(self._channel.parent(), time.time() * 1_000))

    def last_parent(self) -> dict[str, Any]:
        """Of the cell that runs, or ran last."""
        if not self._cells:
            self.begin_cell()
        return self._cells[-1].parent

    def take(self, facts: Iterable[Any], is_snapshot: bool) -> None:
        """Facts of one delta, on the engine's thread. A snapshot's lines were printed before we looked: skipped, unless
        the cluster is this kernel's own."""
        for fact in facts:
            if fact.kind != "log" or fact.row is None or fact.key in self._taken:
                continue
            self._taken[fact.key] = None
            if len(self._taken) > QUEUE_MAX:
                del self._taken[next(iter(self._taken))]
            if self._takes_snapshots or not is_snapshot:
                self._queue.append(fact.row)

    def flush(self, is_last: bool = False) -> None:
        """Write what is queued: one message for each cell and stream. is_last: hold nothing back. The panels' thread,
        or whoever has stopped it."""
        fresh = [self._queue.popleft() for _ in range(len(self._queue))]
        held, self._held = self._held, []
        if not (fresh or held):
            return
        workers = self._workers()
        if not is_last:
            known = next((n for n, row in enumerate(fresh) if row.get("pid", 0) not in workers), len(fresh))
            fresh, self._held = fresh[:known], fresh[known:]
            if self._held:
                self._ask_again()
        for cell, rows in self._by_cell(held + fresh, workers):
            self._write(cell, rows)

    def _by_cell(
        self, rows: list[dict[str, Any]], workers: Mapping[int, WorkerNote]
    ) -> list[tuple[CellOutput, list[dict[str, Any]]]]:
        """Runs of lines that go to the same cell, named by what their workers do."""
        runs: list[tuple[CellOutput, list[dict[str, Any]]]] = []
        for row in rows:
            note = workers.get(row.get("pid", 0))
            cell = self._cell_at(note.started_ms if note else 0.0)
            named = row if row.get("name") or note is None else {**row, "name": note.name}
            if runs and runs[-1][0] is cell:
                runs[-1][1].append(named)
            else:
                runs.append((cell, [named]))
        return runs

    def _cell_at(self, started_ms: float) -> CellOutput:
        """The cell that ran when a task began; the last one when that is not known."""
        if not self._cells:
            self.begin_cell()
        if started_ms:
            for cell in reversed(self._cells):
                if cell.started_ms <= started_ms + CLOCK_SLACK_MS:
                    return cell
        return self._cells[-1]

    def _write(self, cell: CellOutput, rows: list[dict[str, Any]]) -> None:
        for stream, text in cell.stream.render(rows).items():
            self._channel.stream(text, stream, cell.parent)
        folded = cell.stream.folded_text()
        if folded:
            is_update = bool(cell.fold_display_id)
            cell.fold_display_id = cell.fold_display_id or f"raybook-fold-{uuid.uuid4().hex}"
            self._channel.display({"text/plain": folded}, cell.fold_display_id, is_update, cell.parent)
