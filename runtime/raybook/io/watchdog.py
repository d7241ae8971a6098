"""Watchdog of a daemon: a thread that sees the owner die, and ends by force what does not end by itself.

It waits on descriptors only (the owner's pidfd, an eventfd), so it costs nothing until something happens, and it works
while the loop is stuck. Decides nothing but "too late".
"""

from __future__ import annotations

import asyncio
import os
import select
import threading
from collections.abc import Callable

from raybook.io.process import is_alive
from raybook.protocol.messages.daemons import OwnerProcess

GRACE_S = 2.0
"""An orderly end takes 0.1 s; five seconds after the owner's death nothing may be left (ARCHITECTURE.md §6)."""
OWNER_DIED = "its owner's process has ended"


class Watchdog:
    """Starts its thread at once. on_owner_death: called from the thread. by_force: called from the thread when the end
    that was announced has not come in time; must not return to normal life."""

    def __init__(
        self,
        owner: OwnerProcess | None,
        on_owner_death: Callable[[], None],
        by_force: Callable[[], None],
        grace_s: float = GRACE_S,
    ) -> None:
        self._on_owner_death = on_owner_death
        self._by_force = by_force
        self._grace_s = grace_s
        self._ending = os.eventfd(0, os.EFD_CLOEXEC)
        self._owner_fd = None if owner is None else open_owner(owner)
        self._owner_is_gone = owner is not None and self._owner_fd is None
        self._changed = os.eventfd(0, os.EFD_CLOEXEC)
        self._thread = threading.Thread(target=self._watch, name="watchdog", daemon=True)
        self._thread.start()

    def announce_end(self) -> None:
        """The end has begun; it has ``grace_s`` from now. Idempotent, from any thread."""
        os.eventfd_write(self._ending, 1)

    def set_owner(self, owner: OwnerProcess | None) -> bool:
        """Watch this process from now on, or none. False, and nothing is changed, when it is gone. From any thread."""
        owner_fd = None if owner is None else open_owner(owner)
        if owner is not None and owner_fd is None:
            return False
        self._owner_fd = owner_fd
        os.eventfd_write(self._changed, 1)
        return True

    def _watch(self) -> None:
        while not self._owner_is_gone:
            # Read once: it may become another one while this thread waits.
            owner_fd = self._owner_fd
            poller = select.poll()
            for fd in (self._ending, self._changed, owner_fd):
                if fd is not None:
                    poller.register(fd, select.POLLIN)
            woken = [fd for fd, _ in poller.poll()]
            if self._ending in woken:
                break
            if self._changed in woken:
                os.eventfd_read(self._changed)
                if owner_fd is not None and owner_fd != self._owner_fd:
                    os.close(owner_fd)
                continue
            self._owner_is_gone = True
        if self._owner_is_gone:
            self._on_owner_death()
        # The process ends before this wait does, unless something is stuck.
        select.poll().poll(self._grace_s * 1000)
        self._by_force()


def open_owner(owner: OwnerProcess) -> int | None:
    """A pidfd of exactly this process, or None when it is gone (the pid may belong to somebody else by now)."""
    try:
        pidfd = os.pidfd_open(owner.pid)
    except ProcessLookupError:
        return None
    if is_alive(owner.pid, owner.start_time):
        return pidfd
    os.close(pidfd)
    return None


class Ending:
    """When a daemon on a loop is to end: told by anybody on the loop, or by its watchdog's thread, also before the loop
    runs. ``announce``: the watchdog's."""

    def __init__(self) -> None:
        self.announce: Callable[[], None] = lambda: None
        self._owner_died = False
        self._loop: asyncio.AbstractEventLoop | None = None
        self._ended: asyncio.Future[str] | None = None
        self._on_owner_death: Callable[[str], None] = self.stop

    def begin(
        self, loop: asyncio.AbstractEventLoop, on_owner_death: Callable[[str], None] | None = None
    ) -> tuple[asyncio.Future[str], Callable[[str], None]]:
        """(what is done when the end comes, with its reason; how to bring it). on_owner_death: done instead, on the loop,
        when the owner dies."""
        self._ended = loop.create_future()
        self._loop = loop
        self._on_owner_death = on_owner_death or self.stop
        if self._owner_died:
            self._on_owner_death(OWNER_DIED)
        return self._ended, self.stop

    def stop(self, reason: str) -> None:
        """On the loop. Idempotent."""
        self.announce()
        if self._ended is not None and not self._ended.done():
            self._ended.set_result(reason)

    def owner_died(self) -> None:
        """From the watchdog's thread."""
        self._owner_died = True
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self._on_owner_death, OWNER_DIED)
