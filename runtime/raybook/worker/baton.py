"""Baton: which thread runs the I/O loop of this process. One at a time; whoever waits for something runs it itself.

A thread that blocks in ``get`` needs the loop to turn until its value has come. Were the loop always a thread of its own,
every synchronous call would wake that thread and be woken by it. So a waiting thread *leads* when nobody else does: it
turns the loop until what it waits for is there, and lays the baton down.

    held by the I/O thread    the ordinary state: it sleeps in epoll, and works
    led by another thread     the I/O thread is parked
    lying                     nobody reads the sockets; the I/O thread is parked, and looks every ``PARK_S`` whether
                              somebody led meanwhile: if not, it takes the baton up again

Invariants: the loop's state is touched by the holder only. The baton never lies for longer than two ``PARK_S``, unless
somebody leads meanwhile; whoever leaves something undone (work in flight, threads that wait) unparks the I/O thread
when it lays the baton down; whoever leads lays it down for a thread that claims it, which is a worker's main thread, and
waits on a lock from then on. Interrupts: on the main thread the holder defers signals (``deferred_signals``).
"""

from __future__ import annotations

import _thread
from collections.abc import Callable
from functools import partial

_get_ident = _thread.get_ident

PARK_S = 0.002
"""Messages that come while the baton lies wait at most twice this long. A look costs 10 µs: half a per cent of a core,
and only while calls are being made."""


class Baton:
    """One for each process."""

    __slots__ = (
        "_lock", "_park", "_release", "_try", "is_claimed", "is_needed", "is_parked", "is_wanted", "leader", "turns",
    )  # fmt: skip

    def __init__(self) -> None:
        self._lock = _thread.allocate_lock()
        self._try = partial(self._lock.acquire, False)
        self._release = self._lock.release
        self._park = _thread.allocate_lock()
        self._park.acquire()
        self.is_parked = False
        """The I/O thread sleeps until it is woken: it saw somebody lead."""
        self.is_needed = False
        """The I/O thread shall take the baton up."""
        self.is_wanted = False
        """A thread that calls synchronously would rather lead: lay the baton down when all is quiet."""
        self.is_claimed = False
        """A thread waits for the baton: lay it down now."""
        self.leader = 0
        """Thread that turns the loop now, the I/O thread too; 0: the baton lies."""
        self.turns = 0
        """How often somebody has ended to lead."""

    # The I/O thread

    def take_up(self) -> None:
        """Wait until nobody leads; hold the baton."""
        self._lock.acquire()
        self.is_needed = False
        self.leader = _get_ident()

    def lay_down(self) -> None:
        """Let others lead."""
        self.is_wanted = False
        self.leader = 0
        self._release()

    def wait_until_needed(self) -> None:
        """Park: until nobody has led for a while, or somebody says that there is something to do."""
        while not self.is_needed:
            turns = self.turns
            self._park.acquire(True, PARK_S)
            if self.leader:
                # Raised before the second look: a leader that ends after that look sees the flag, and wakes us. At most
                # once in ``PARK_S``: a loop of synchronous calls leads almost always when we look.
                self.is_parked = True
                if self.leader and not self.is_needed:
                    self._park.acquire()
                self.is_parked = False
            elif turns == self.turns:
                return

    def unpark(self) -> None:
        """The I/O thread shall take over. Any thread."""
        self.is_needed = True
        self._nudge()

    def _nudge(self) -> None:
        if self._park.locked():
            try:
                self._park.release()
            except RuntimeError:  # noqa: SIM105 - this runs often, and a context manager costs 0.5 µs.
                # Another thread was quicker.
                pass

    # Whoever waits

    def lead(self, me: int) -> bool:
        """Hold the baton, if it lies and the I/O thread is not about to take it up. me: this thread. Pair with ``rest``."""
        if self.is_needed or not self._try():
            return False
        self.leader = me
        return True

    def claim(self, wake: Callable[[], None]) -> None:
        """Hold the baton, as soon as its holder lays it down. wake: ends the holder's sleep."""
        self.is_claimed = True
        wake()
        self._lock.acquire()
        self.is_claimed = False
        self.leader = _get_ident()

    def rest(self, is_quiet: bool) -> None:
        """Lay the baton down. is_quiet: nothing is in flight that the loop would be needed for."""
        self.turns += 1
        self.leader = 0
        self._release()
        if not is_quiet:
            self.unpark()
        elif self.is_parked:
            self._nudge()
