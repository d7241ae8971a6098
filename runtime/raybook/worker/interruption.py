"""Interruption: how a cancelled task that runs on the main thread is made to stop.

By a signal of our own, whose handler raises KeyboardInterrupt in the task's code: only while that very task is current
and its own code runs, so that neither the next task nor half a reply is hit. The I/O thread asks; the main thread heeds.

A signal can be lost without anybody's fault: it comes when the main thread has let go of the interpreter and is about
to sleep in a system call, which then does not end early. Hence it is sent again, ever more rarely, until it is heeded.
"""

from __future__ import annotations

import _thread
import signal
import time
from collections.abc import Callable
from typing import Any

from raybook.protocol.messages.worker import TaskSpec

CANCEL_SIGNAL = signal.SIGUSR2
AGAIN_NS_MIN, AGAIN_NS_MAX = 10_000_000, 500_000_000
"""Pauses between two signals. C code may see its system calls end early by them, so they double."""


class Interruption:
    """One per worker, made on its main thread. current: the task that thread runs. deferrable: makes a handler one that
    knows when signals are deferred."""

    __slots__ = ("_again_ns", "_current", "_main", "_next_ns", "is_open", "wanted")

    def __init__(self, current: Callable[[], TaskSpec | None], deferrable: Callable[[Any], Any] | None = None) -> None:
        self._current = current
        self._main = _thread.get_ident()
        self.is_open = False
        """The task's own code runs. Set by the main thread, which then looks at ``wanted``."""
        self.wanted: set[bytes] = set()
        """Tasks to stop. One that is neither waiting nor current is between the two, and finds itself here."""
        self._again_ns = AGAIN_NS_MIN
        self._next_ns = 0
        signal.signal(CANCEL_SIGNAL, deferrable(self._on_signal) if deferrable else self._on_signal)

    def ask(self, task_id: bytes) -> None:
        """I/O thread: stop this task. First the note, then the look: the main thread does it the other way round."""
        self.wanted.add(task_id)
        if self.is_current(task_id):
            self._again_ns = AGAIN_NS_MIN
            self._send()

    def is_current(self, task_id: bytes) -> bool:
        current = self._current()
        return current is not None and current.task_id == task_id

    def ask_again(self) -> None:
        """I/O thread, now and then while something is wanted."""
        current = self._current()
        if current is not None and current.task_id in self.wanted and time.monotonic_ns() >= self._next_ns:
            self._again_ns = min(2 * self._again_ns, AGAIN_NS_MAX)
            self._send()

    def heed(self) -> None:
        """Main thread: KeyboardInterrupt when the current task is to stop."""
        current = self._current()
        if current is not None and current.task_id in self.wanted:
            self.wanted.discard(current.task_id)
            raise KeyboardInterrupt

    def over(self, task_id: bytes) -> None:
        """Main thread: the task has ended, whatever was wanted of it."""
        self.wanted.discard(task_id)

    def _send(self) -> None:
        self._next_ns = time.monotonic_ns() + self._again_ns
        signal.pthread_kill(self._main, CANCEL_SIGNAL)

    def _on_signal(self, signum: int, frame: Any) -> None:
        """Runs on the main thread between two byte codes."""
        if self.is_open:
            self.heed()
