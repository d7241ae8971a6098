"""Doorbell: how threads hand events to the I/O loop, and wake whoever sleeps in it.

Events go into a deque; whoever turns the loop takes them out. Knows nothing of what they are.

Invariant: whoever appends after the sleeper's last look at the queue sees ``is_asleep``, and rings. While the baton lies,
the I/O thread is told instead, or the thread that appends is about to lead itself.
"""

from __future__ import annotations

import os
import weakref
from collections import deque
from typing import Any

from raybook.worker.baton import Baton

LEFT_TO_LIE_MAX = 1
"""A synchronous call hands over one record and waits. More records before a wait: the loop should turn meanwhile."""


class Doorbell:
    """One for each process."""

    __slots__ = ("__weakref__", "_baton", "fd", "is_asleep", "left_to_lie", "queue")

    def __init__(self, baton: Baton) -> None:
        self._baton = baton
        self.queue: deque[Any] = deque()
        self.fd = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        """Readable, edge-triggered, when somebody rang."""
        # Closed with this object, not with the I/O thread or at exit: another thread may be about to write to it.
        weakref.finalize(self, os.close, self.fd).atexit = False
        self.is_asleep = False
        """Whoever turns the loop sleeps, or is about to."""
        self.left_to_lie = 0
        """Events handed over without hurry since somebody last turned the loop."""

    def submit(self, event: Any) -> None:
        """Hand an event to the loop, to be handled at once. Cost: 0.1 µs, and a wake-up (1–5 µs) when it sleeps."""
        self.queue.append(event)
        if self.is_asleep:
            self.ring()
        elif not self._baton.leader:
            self._baton.unpark()

    def submit_soon(self, event: Any) -> None:
        """As ``submit``, for what the same thread will probably wait for next: the first one after the baton was laid
        down stays in the queue, for at most 4 ms, until that thread leads."""
        self.queue.append(event)
        if self.is_asleep:
            self.ring()
        elif not self._baton.leader:
            if self.left_to_lie >= LEFT_TO_LIE_MAX:
                self._baton.unpark()
            self.left_to_lie += 1

    def leave(self, event: Any) -> None:
        """As ``submit``, for what may wait until somebody turns the loop, 4 ms at most, or needs no more than that the
        thread that hands it over is about to lead."""
        self.queue.append(event)
        if self.is_asleep:
            self.ring()

    def rouse(self) -> None:
        """Something was put into the queue: whoever turns the loop, or should, shall see it."""
        if self.is_asleep:
            self.ring()
        elif not self._baton.leader:
            self._baton.unpark()

    def ring(self) -> None:
        """End the sleep of whoever turns the loop."""
        self.is_asleep = False
        os.eventfd_write(self.fd, 1)
