"""Idle probe: asks leased workers whether anything runs there, so that warm leases count as available in reports.

Asked a moment after leases changed, then ever more rarely while leases last, and at once when somebody wants to know.
No message for each task, and no decision: answers go to the lease manager.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from raybook.core.node.lease_events import LeaseProbed
from raybook.protocol.messages.raylet import LeaseProbe
from raybook.raylet.effects import NodeDecider

FIRST_MS = 10
INTERVAL_MS_MAX = 200
"""As long as an owner keeps an idle lease: after that the lease comes back by itself."""
ANSWER_S_MAX = 0.05
"""A worker that does not answer within this counts as busy."""


@dataclass(slots=True)
class _Round:
    asked: dict[bytes, int]
    """Worker → epoch of its lease when it was asked."""
    done: asyncio.Future[None]


class IdleProbe:
    """One round of questions at a time may be waited for; others run in the background."""

    def __init__(self, decider: NodeDecider) -> None:
        self._decider = decider
        self._loop = asyncio.get_running_loop()
        self._rounds: dict[int, _Round] = {}
        self._last_id = 0
        self._timer: asyncio.TimerHandle | None = None
        self._interval_ms = FIRST_MS
        self._closed = False

    def leases_changed(self) -> None:
        """Look in a moment, unless a look is due anyway."""
        if self._timer is None and not self._closed:
            self._interval_ms = FIRST_MS
            self._timer = self._loop.call_later(FIRST_MS / 1000, self._look)

    async def ask(self) -> None:
        """Ask everybody and wait for the answers, at most 50 ms."""
        asked = self._start()
        if asked is not None:
            await asyncio.wait([asked.done], timeout=ANSWER_S_MAX)

    def answered(self, worker: bytes, probe_id: int, idle: bool) -> None:
        """A worker answered."""
        asked = self._rounds.get(probe_id)
        epoch = asked.asked.pop(worker, None) if asked is not None else None
        if asked is None or epoch is None:
            return
        self._decider.lease(LeaseProbed(worker, epoch, idle))
        if not asked.asked:
            del self._rounds[probe_id]
            if not asked.done.done():
                asked.done.set_result(None)

    def close(self) -> None:
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()
        for asked in self._rounds.values():
            asked.done.cancel()

    def _look(self) -> None:
        self._timer = None
        if self._start() is None:
            return
        self._interval_ms = min(2 * self._interval_ms, INTERVAL_MS_MAX)
        self._timer = self._loop.call_later(self._interval_ms / 1000, self._look)

    def _start(self) -> _Round | None:
        leases = self._decider.leases.reports.task_leases()
        if not leases:
            return None
        self._last_id += 1
        asked = self._rounds[self._last_id] = _Round(dict(leases), self._loop.create_future())
        # Whoever has not answered the question before the last is not waited for by anybody.
        self._rounds.pop(self._last_id - 8, None)
        for worker, _ in leases:
            self._decider.send(worker, LeaseProbe(self._last_id))
        return asked
