"""Lease recall: whom to ask for a lease back when a request cannot be served from what is free.

Owners keep leases warm, so what looks taken may be idle. The *workers* are asked, never the owners: a stuck owner
cannot hold a worker. Asked are as many as could serve what starves, first those asked longest ago. A lease whose class
has demand of its own is busy by its owner's word; it is asked only after ``LEASE_HOLD_MS`` and only to drain (to give
back what has not started), for requests that hold no lease at all. Nobody is asked in vain: a request that could not be
served even if every answer were yes disturbs nobody.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from raybook.base.resources import Shape
from raybook.core.node.lease_events import AskRevoke
from raybook.core.node.lease_table import Lease, LeaseTable, Worker
from raybook.core.node.request_queue import Group, RequestQueue
from raybook.core.node.resource_pools import ResourcePools

INTERVAL_MS = 50
"""A worker that said it is busy is not asked again for this long."""
ANSWER_MS = 10
"""An unanswered question stands for the resources it may bring for this long; then others are asked as well."""
DRAIN_ANSWER_MS = 100
"""The same for a lease that was asked to drain, which may have to end a task first."""
LEASE_HOLD_MS = 500
"""Ray's ``worker_lease_timeout_milliseconds``."""
LIGHT = "task without resources"
"""Stands for one place among the light leases where amounts are compared."""


@dataclass(slots=True)
class _Candidate:
    worker: Worker
    lease: Lease
    held: Shape
    drain: bool


class LeaseRecall:
    """``deadline_ms``: when to call ``ask`` again if nothing happens; None for never."""

    def __init__(self, table: LeaseTable, queue: RequestQueue, pools: ResourcePools) -> None:
        self.deadline_ms: int | None = None
        self._table = table
        self._queue = queue
        self._pools = pools

    def ask(self, starving: list[Group], now_ms: int) -> list[AskRevoke]:
        """Whom to ask now. Cost: linear in the leases and in the starving requests."""
        self.deadline_ms = None
        if not starving:
            return []
        candidates, coming = self._candidates(starving, now_ms)
        hoped = dict(coming)
        for candidate in candidates:
            _add(hoped, candidate.held)
        plain, urgent = self._wanted_back(starving, hoped)
        _subtract(plain, coming)
        _subtract(urgent, coming)
        candidates.sort(key=lambda candidate: (candidate.drain, candidate.lease.asked_ms or 0))
        questions = []
        for candidate in candidates:
            wanted = urgent if candidate.drain else plain
            if not any(wanted.get(name, 0) > 0 for name in candidate.held):
                continue
            lease = candidate.lease
            lease.asking, lease.draining, lease.asked_ms = True, candidate.drain, now_ms
            self._is_ahead(now_ms + _patience_ms(lease), now_ms)
            questions.append(AskRevoke(candidate.worker.worker_id, lease.epoch, candidate.drain))
            _subtract(plain, candidate.held)
            _subtract(urgent, candidate.held)
        return questions

    def ask_all(self, now_ms: int) -> list[AskRevoke]:
        """Every lease back, each when its running task has ended: nobody is served here any more, and nobody else asked."""
        self.deadline_ms = None
        questions = []
        for worker in self._table.leases.values():
            lease = worker.lease
            if lease is not None and lease.orphan_deadline_ms is None:
                lease.asking, lease.draining, lease.asked_ms = True, True, now_ms
                questions.append(AskRevoke(worker.worker_id, lease.epoch, drain=True))
        return questions

    def _candidates(self, starving: list[Group], now_ms: int) -> tuple[list[_Candidate], Shape]:
        """Leases that may be asked now, and what earlier questions may still bring."""
        empty_handed = any(request.key not in self._table.held_by for group in starving for request in group.queue)
        candidates = []
        coming: Shape = {}
        for worker in self._table.leases.values():
            lease = worker.lease
            if lease is None or lease.blocked or lease.orphan_deadline_ms is not None:
                continue
            held = self._held_of(lease)
            if lease.asking:
                if self._is_ahead((lease.asked_ms or 0) + _patience_ms(lease), now_ms):
                    _add(coming, held)
                continue
            drain = empty_handed and now_ms - lease.granted_ms >= LEASE_HOLD_MS
            if lease.key in self._queue and not drain:
                if empty_handed:
                    self._is_ahead(lease.granted_ms + LEASE_HOLD_MS, now_ms)
                continue
            if lease.asked_ms is None or not self._is_ahead(lease.asked_ms + INTERVAL_MS, now_ms):
                candidates.append(_Candidate(worker, lease, held, drain))
        return candidates, coming

    def _held_of(self, lease: Lease) -> Shape:
        if lease.light:
            return {LIGHT: 1}
        return self._pools.compared_held(lease.lease_id)

    def _wanted_back(self, starving: list[Group], hoped: Shape) -> tuple[Shape, Shape]:
        """Amounts that would serve all starving requests, and one lease for each request that holds none."""
        plain: Shape = {}
        urgent: Shape = {}
        for group in starving:
            shape, free = self._pools.compared(group.shape, group.target) if group.shape else ({LIGHT: 1}, {LIGHT: 0})
            one = {name: amount - free[name] for name, amount in shape.items() if amount > free[name]}
            if any(amount > hoped.get(name, 0) for name, amount in one.items()):
                continue
            # Nothing is short in sum: whole GPUs are taken apart by fractions.
            one = one or dict(shape)
            for name in one:
                plain[name] = plain.get(name, 0) + max(one[name], shape[name] * group.count - free[name])
            for request in group.queue:
                if request.key not in self._table.held_by:
                    _add(urgent, one)
        return plain, urgent

    def _is_ahead(self, moment_ms: int, now_ms: int) -> bool:
        """Whether the moment is still to come; then ``ask`` wants to be called at it."""
        if moment_ms <= now_ms:
            return False
        known = self.deadline_ms
        self.deadline_ms = moment_ms if known is None else min(known, moment_ms)
        return True


def _patience_ms(lease: Lease) -> int:
    return DRAIN_ANSWER_MS if lease.draining else ANSWER_MS


def _add(amounts: Shape, more: Mapping[str, int]) -> None:
    for name, amount in more.items():
        amounts[name] = amounts.get(name, 0) + amount


def _subtract(amounts: Shape, less: Mapping[str, int]) -> None:
    for name, amount in less.items():
        amounts[name] = amounts.get(name, 0) - amount
