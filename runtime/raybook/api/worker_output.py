"""Worker output: prints in the driver what its workers print, with Ray's prefix: ``(name pid=1234) hello``.

A thread of its own writes, so that a terminal that stands still holds up neither tasks nor messages. It begins with the
first line, and what has been printed before a task's end is written before ``shutdown`` (or the interpreter's normal
end) is over. Where a notebook's extension routes output to cells, nothing is printed here.
"""

from __future__ import annotations

import atexit
import queue
import sys
import threading
import time
from collections.abc import Callable

from raybook.api.context import current_runtime
from raybook.api.output_folding import OutputFolding, Printed
from raybook.protocol.messages.output import WorkerLine

FLUSH_TIMEOUT_S = 1.0
"""How long an end waits for the last lines; a raylet answers in a millisecond."""


class WorkerOutput:
    """The output of one driver's workers. ``take`` goes to the engine; ``flush``, ``node`` come from it."""

    def __init__(self, folds: bool, never_folded: str = "", hidden: str = "") -> None:
        self._folds = folds
        self._never_folded = never_folded
        self._hidden = hidden
        self._queue: queue.SimpleQueue[list[WorkerLine] | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._ending = threading.Lock()
        self._is_finished = False
        self._folding: OutputFolding | None = None
        self._flush: Callable[[float], None] = _nothing_to_flush

    def attach(self, node_id: bytes, flush: Callable[[float], None]) -> None:
        """The engine is there. flush: has everything that was printed by now handed to ``take``; blocks."""
        self._folding = OutputFolding(node_id.hex(), self._folds, self._never_folded, self._hidden)
        self._flush = flush
        atexit.register(self.finish)
        if not self._queue.empty():
            self._start()

    def take(self, lines: list[WorkerLine]) -> None:
        """Lines, on the engine's thread: they are only queued here."""
        self._queue.put(lines)
        if self._thread is None and self._folding is not None:
            self._start()

    def finish(self) -> None:
        """Print what is left, and no more. Idempotent; blocks for a millisecond, or ``FLUSH_TIMEOUT_S`` at worst."""
        with self._ending:
            if self._is_finished:
                return
            self._is_finished = True
        atexit.unregister(self.finish)
        self._flush(FLUSH_TIMEOUT_S)
        self._queue.put(None)
        if self._thread is not None:
            self._thread.join(FLUSH_TIMEOUT_S)

    def _start(self) -> None:
        self._thread = threading.Thread(target=self._run, name="raybook-output", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        folding = self._folding
        assert folding is not None
        while True:
            deadline = folding.next_deadline()
            try:
                lines = self._queue.get(timeout=None if deadline is None else max(0.0, deadline - time.monotonic()))
            except queue.Empty:
                lines = []
            if lines is None:
                _write(folding.finish())
                return
            _write(folding.show(lines, time.monotonic()))


def _write(printed: list[Printed]) -> None:
    """To the streams of this moment: tests and notebooks exchange them."""
    if not printed or current_runtime.routes_output:
        return
    for source, stream in (("out", sys.stdout), ("err", sys.stderr)):
        text = "".join(text for each, text in printed if each == source)
        if text and stream is not None:
            try:
                stream.write(text)
                stream.flush()
            except (OSError, ValueError):
                # Closed by its owner, or its reader is gone. Nothing is left to tell anybody on.
                continue


def _nothing_to_flush(timeout_s: float) -> None:
    pass
