"""Leading: how a thread that waits turns the I/O loop meanwhile, instead of waking another one (see ``baton``).

Three ways in: a blocking call (``wait_for``), a worker's idle main thread (``lead_for_work``, ``lead_until``), an event
loop that has nothing to do (``turn``). One loop body behind all of them: the core process's step. Knows nothing of what
it does.

Invariants: the baton is laid down whatever happens, once; on the main thread no signal handler runs between, except of
signals that are not deferred.
"""

from __future__ import annotations

import _thread
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from raybook.worker.baton import Baton
from raybook.worker.deferred_signals import DeferredSignals
from raybook.worker.doorbell import Doorbell

OFTEN_NS = 5_000_000
"""Threads that wait again this soon call synchronously, and lead from then on."""
TIMEOUT_S_MAX = 4_000_000.0
_MAIN_THREAD = threading.main_thread().ident
_get_ident = _thread.get_ident


def shut_lock() -> Any:
    """A raw lock, held: waiting for it ends at once when a signal's handler raises."""
    lock = _thread.allocate_lock()
    lock.acquire()
    return lock


class Led(Protocol):
    """The core process, as seen from here."""

    baton: Baton
    doorbell: Doorbell
    is_ending: bool
    """This process leaves its cluster: nobody waits any longer."""

    unfinished: dict[bytes, Any]
    """Tasks of this process in flight, or waiting."""
    awaited: dict[bytes, Any]
    """Objects that threads of it wait for."""


class Awaited(Protocol):
    """What a thread waits for."""

    done: bool
    lock: Any
    """Opened when it is done, if there is one; a thread that does not lead waits for it."""


class Ending(Protocol):
    """Who takes work."""

    exiting: bool
    """Takes no more."""


class Sleeper(Protocol):
    """An event loop, as seen from here."""

    has_events: bool
    """It must not sleep."""
    is_turning: bool
    """Its thread leads."""


class Leading:
    """step: one turn; sleeps until ``end_s`` (monotonic) at most. fail: the loop body raised."""

    __slots__ = (
        "_awaited", "_baton", "_core", "_deferred", "_doorbell", "_fail", "_queue", "_step", "_unfinished", "_waited_ns",
    )  # fmt: skip

    def __init__(
        self, core: Led, step: Callable[[float | None], None], fail: Callable[[], None], deferred: DeferredSignals
    ) -> None:
        self._core = core
        self._baton = core.baton
        self._doorbell = core.doorbell
        # While all three are empty, nothing would be late if the loop turned some milliseconds later.
        self._queue = core.doorbell.queue
        self._unfinished = core.unfinished
        self._awaited = core.awaited
        self._step = step
        self._fail = fail
        self._deferred = deferred
        self._waited_ns = 0
        """When a thread last had to wait while the I/O thread led."""

    def wait_for(self, event: Awaited, timeout_s: float | None = None) -> bool:
        """Hand an event over and wait until it is done; turns the loop meanwhile if nobody else does. False on time-out.
        Whatever a signal's handler raises comes out of here, with nothing half done."""
        baton, core = self._baton, self._core
        me = _get_ident()
        if baton.leader == me:
            raise RuntimeError(
                "A blocking call of raybook was made by a finalizer or callback that runs inside raybook itself; it would "
                "wait for itself. Nothing was done. Make the call from ordinary code."
            )
        end_s = None if timeout_s is None else time.monotonic() + min(timeout_s, TIMEOUT_S_MAX)
        deferred = self._deferred if me == _MAIN_THREAD else None
        is_handed_over = False
        noted: Sequence[int] = ()
        while True:
            if deferred is not None:
                deferred.begin()
                noted = deferred.noted
            try:
                if not baton.lead(me):
                    break
                try:
                    if not is_handed_over:
                        is_handed_over = True
                        self._queue.append(event)
                    self._doorbell.left_to_lie = 0
                    while not (event.done or noted or baton.is_claimed or core.is_ending):
                        if end_s is not None and time.monotonic() >= end_s:
                            break
                        self._step(end_s)
                except Exception:  # noqa: BLE001 - it is logged, and ends this process's membership.
                    self._fail()
                finally:
                    is_handed_on = baton.is_claimed and not (event.done or noted)
                    if not event.done and event.lock is None:
                        # Whoever leads next opens it, should this thread not.
                        event.lock = shut_lock()
                    baton.rest(not (self._queue or self._unfinished or self._awaited or core.is_ending))
                if is_handed_on:
                    break
                if event.done or not noted:
                    return event.done
                # A signal's handler runs now; if it does not raise, the wait goes on.
            finally:
                if deferred is not None:
                    deferred.end()
        if not is_handed_over:
            if event.lock is None:
                event.lock = shut_lock()
            self._queue.append(event)
        self._doorbell.rouse()
        self._ask_to_lead()
        if end_s is None:
            return event.lock.acquire()
        return event.lock.acquire(True, max(0.0, end_s - time.monotonic()))

    def lead_for_work(self, work: deque[Any], worker: Ending) -> None:
        """A worker's main thread, which has nothing to do: turn the loop until there is work, or it is to end."""
        core = self._core
        if not self._baton.lead(_get_ident()):
            self._baton.claim(self._doorbell.ring)
        self._doorbell.left_to_lie = 0
        try:
            while not (work or worker.exiting or core.is_ending):
                self._step(None)
        except Exception:  # noqa: BLE001 - it is logged, and ends this process's membership.
            self._fail()
        finally:
            self._baton.rest(not (self._queue or self._unfinished or self._awaited or core.is_ending))

    def lead_until(self, is_over: Callable[[], bool]) -> None:
        """A worker's main thread: turn the loop until something is so."""
        core = self._core
        if not self._baton.lead(_get_ident()):
            self._baton.claim(self._doorbell.ring)
        self._doorbell.left_to_lie = 0
        try:
            while not (is_over() or core.is_ending):
                self._step(None)
        except Exception:  # noqa: BLE001 - it is logged, and ends this process's membership.
            self._fail()
        finally:
            self._baton.rest(not (self._queue or self._unfinished or self._awaited or core.is_ending))

    def turn(self, sleeper: Sleeper, timeout_s: float | None) -> bool:
        """An event loop's thread: turn the I/O loop once, and sleep in it for ``timeout_s`` at most. False when there is
        no time to wait for another thread that turns it."""
        core = self._core
        if not self._baton.lead(_get_ident()):
            if timeout_s is not None and timeout_s <= 0:
                return False
            self._baton.claim(self._doorbell.ring)
        self._doorbell.left_to_lie = 0
        sleeper.is_turning = True
        try:
            if sleeper.has_events or core.is_ending:
                timeout_s = 0
            self._step(None if timeout_s is None else time.monotonic() + timeout_s)
        except Exception:  # noqa: BLE001 - it is logged, and ends this process's membership.
            self._fail()
        finally:
            sleeper.is_turning = False
            # This thread comes back as soon as its loop has done what there is.
            self._baton.rest(not core.is_ending)
        return True

    def _ask_to_lead(self) -> None:
        """The I/O thread led while this one waits. Who waits often would rather lead."""
        now_ns = time.monotonic_ns()
        if now_ns - self._waited_ns < OFTEN_NS:
            self._baton.is_wanted = True
        self._waited_ns = now_ns
