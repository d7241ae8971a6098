"""Doorbell: how a process waits for another to have written to shared memory.

It looks, for as long as a wake-up would cost, and gives its turn away between two looks, so that on a single core the
other can run; then it sleeps on an eventfd that whoever writes rings if it finds the sleeper's flag up. Looking pays where
both have a core; where others want the cores too it only takes their time and loses its own. So whoever has looked in vain
a few times sleeps at once for a while, then tries again. Knows nothing of what is waited for.

Invariants: the flag is up while the owner sleeps, and is put up before the last look, so a write is either seen or rings;
a sleep is bounded, so that on a machine that reorders what we did not foresee, a lost ring costs `SLEEP_S_MAX`.
By measurement (2 cores, Python 3.11, median of an execution with one actor): both looking 14 to 30 µs, both sleeping 44 to
50; with four computing processes beside them: looking 250 to 300, sleeping 44 to 50.
"""

from __future__ import annotations

import _thread
import os
import select
import time
from collections.abc import Callable, Iterable

LOOK_NS = 60_000
"""As long as a wake-up takes: at most twice the time of the better choice is lost."""
TRUST_MAX = 8
"""So many looks in vain, after looks that paid, until looking stops."""
TRIAL_EVERY = 100
"""Of waits without a look, every so-manieth looks all the same."""
SLEEP_S_MAX = 1.0

_fence_lock = _thread.allocate_lock()


def fence() -> None:
    """Every write before it is seen by others before any read after it is done: a lock's atomic exchange is one. 60 ns."""
    _fence_lock.acquire(False)
    _fence_lock.release()


class Doorbell:
    """The one of this process. eventfd: non-blocking. flags: one byte for each participant, 64 bytes apart; index: ours.
    watched: sockets whose end is told to `on_hangup`."""

    def __init__(self, eventfd: int, flags: memoryview, index: int) -> None:
        self.eventfd = eventfd
        self._flags = flags
        self._index = index
        self._poll = select.poll()
        self._poll.register(eventfd, select.POLLIN)
        self._watched: dict[int, Callable[[], None]] = {}
        self._trust = TRUST_MAX
        self._skipped = 0

    def watch(self, fd: int, on_hangup: Callable[[], None]) -> None:
        """Call back, from a sleep, when the peer of this socket has closed it."""
        self._watched[fd] = on_hangup
        self._poll.register(fd, select.POLLIN | select.POLLHUP | select.POLLRDHUP)

    def unwatch(self, fds: Iterable[int]) -> None:
        for fd in fds:
            if self._watched.pop(fd, None) is not None:
                self._poll.unregister(fd)

    def wait(self, is_there: Callable[[], bool], timeout_s: float, at_a_look: Callable[[], bool] | None = None) -> bool:
        """Until ``is_there()`` or time is up; whether it is. timeout_s: negative for no end. at_a_look: a quicker question,
        for the looks, that may miss what is rare. Exceptions of ``is_there`` and of the callbacks come through."""
        if is_there() or (timeout_s != 0 and self._is_worth_a_look() and self._look(at_a_look or is_there)):
            return True
        deadline = time.monotonic() + timeout_s if timeout_s >= 0 else None
        while True:
            left_s = SLEEP_S_MAX if deadline is None else min(deadline - time.monotonic(), SLEEP_S_MAX)
            if self.sleep(is_there, max(left_s, 0)):
                return True
            if deadline is not None and time.monotonic() >= deadline:
                return is_there()

    def _is_worth_a_look(self) -> bool:
        if self._trust > 0:
            return True
        self._skipped += 1
        if self._skipped < TRIAL_EVERY:
            return False
        self._skipped = 0
        return True

    def _look(self, is_there: Callable[[], bool]) -> bool:
        now_ns, give_turn = time.perf_counter_ns, os.sched_yield
        end_ns = now_ns() + LOOK_NS
        while True:
            give_turn()
            is_in_time = now_ns() < end_ns
            if is_there():
                # What came while others had our turn for long was no quick answer.
                self._trust = min(self._trust + 1, TRUST_MAX) if is_in_time else max(self._trust - 1, 0)
                return True
            if not is_in_time:
                self._trust = max(self._trust - 1, 0)
                return False

    def sleep(self, is_there: Callable[[], bool], timeout_s: float) -> bool:
        """One sleep, until rung or a socket ended."""
        self.raise_flag()
        try:
            if is_there():
                return True
            events = self._poll.poll(timeout_s * 1000)
        finally:
            self._flags[self._index] = 0
        for fd, _event in events:
            if fd == self.eventfd:
                self.clear()
            else:
                self._hung_up(fd)
        return is_there()

    def check_hangups(self) -> None:
        """Tell of sockets that have ended, without waiting."""
        for fd, _event in self._poll.poll(0):
            if fd != self.eventfd:
                self._hung_up(fd)

    def _hung_up(self, fd: int) -> None:
        tell = self._watched.get(fd)
        self.unwatch([fd])
        if tell is not None:
            tell()

    def raise_flag(self) -> None:
        """From now on, writers ring."""
        self._flags[self._index] = 1
        fence()

    def clear(self) -> None:
        """Take note of rings."""
        try:
            os.eventfd_read(self.eventfd)
        except BlockingIOError:
            pass


def wake(flags: memoryview, index: int, eventfd: int) -> None:
    """Ring once for a flag that is up. Down before the ring: a sleeper whose flag falls hears this ring, and puts it up
    again before it sleeps on; and nobody rings for it meanwhile."""
    flags[index] = 0
    ring(eventfd)


def ring(eventfd: int) -> None:
    """Wake the sleeper; also one that has not fallen asleep yet."""
    try:
        os.eventfd_write(eventfd, 1)
    except BlockingIOError:
        pass  # Rung 2**64 times and never heard: awake enough.
