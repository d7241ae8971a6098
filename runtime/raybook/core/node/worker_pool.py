"""Worker pool: decides how many worker processes this node has: which to start, and which idle ones to end.

Knows processes by a start number until they register and by their client id from then on; nothing of tasks, resources
or how a process is made. As many workers as CPUs are started ahead and kept (``prestart``); more are started when the
lease manager lacks them, a few at a time; idle ones above the kept number are asked to end after ``worker_idle_ms``.
A worker may refuse by staying (it owns live references); it is then idle again. Actors take a worker for good.

Invariants: at most ``parallel_starts_max`` processes are starting; one start number, one process.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from enum import Enum
from typing import Any

from msgspec import Struct

PLAIN_ENVIRONMENT = ""
STAY_MS = 2_000
"""A worker that was asked to end and has not announced that it does is staying, and free for work again."""
FAILED_START_PAUSE_MS = 200
FAILED_START_PAUSE_MS_MAX = 10_000


class WorkersLacking(Struct):
    """The lease manager lacks this many workers of the environment right now (a level, not an order)."""

    environment: str
    count: int


class WorkerRegistered(Struct):
    """The process of this start number is connected and idle."""

    start_id: int
    worker: bytes


class WorkerStartFailed(Struct):
    """The process of this start number died before it registered, or could not be made."""

    start_id: int


class WorkerBusy(Struct):
    """It was leased; ``dedicated``: it became an actor."""

    worker: bytes
    dedicated: bool = False


class WorkerIdle(Struct):
    """Its lease ended."""

    worker: bytes


class WorkerUnwanted(Struct):
    """It is idle, and should end although it would be kept: what it holds is needed elsewhere."""

    worker: bytes


class WorkerLeft(Struct):
    """It is dead, or has announced that it is about to end."""

    worker: bytes


class PoolClosing(Struct):
    """Nobody is served here any more: none is started, and all end that are idle."""


class StartWorker(Struct):
    """Fork one; the answer is WorkerRegistered or WorkerStartFailed with the same number."""

    start_id: int
    environment: str


class AbandonStart(Struct):
    """The process has not registered in time: kill it and report it."""

    start_id: int
    waited_ms: int


class EndWorker(Struct):
    """Ask an idle worker to end. It is out of service until ``WorkerStayed``."""

    worker: bytes


class WorkerStayed(Struct):
    """It has not ended: it may be leased again."""

    worker: bytes


class PoolState(Enum):
    IDLE = "IDLE"
    BUSY = "BUSY"
    ENDING = "ENDING"


class _Member(Struct):
    environment: str
    state: PoolState
    since_ms: int
    refusals: int = 0


class WorkerPool:
    """See the module. ``kept``: idle workers above this number may end; ``prestart``: how many to start unasked."""

    def __init__(
        self, kept: int, prestart: int, parallel_starts_max: int, worker_idle_ms: int, start_timeout_ms: int
    ) -> None:
        self._kept = kept
        self._prestart = prestart
        self._parallel_starts_max = parallel_starts_max
        self._worker_idle_ms = worker_idle_ms
        self._start_timeout_ms = start_timeout_ms
        self._lacking: dict[str, int] = {}
        self._starting: dict[int, tuple[str, int]] = {}
        self._members: dict[bytes, _Member] = {}
        """Workers that serve tasks, or may."""
        self._dedicated: dict[bytes, _Member] = {}
        """Those that are an actor until their end. Nothing is decided about them: a thousand must cost no look."""
        self._last_start_id = 0
        self._failures = 0
        self._paused_until_ms = 0
        self._closing = False
        self._next_ms: int | None = None
        self._effects: list[Any] = []
        self._edges: dict[type, Callable[[Any, int], None]] = {
            WorkersLacking: self._workers_lacking,
            WorkerRegistered: self._worker_registered,
            WorkerStartFailed: self._worker_start_failed,
            WorkerBusy: self._worker_busy,
            WorkerIdle: self._worker_idle,
            WorkerUnwanted: self._worker_unwanted,
            WorkerLeft: self._worker_left,
            PoolClosing: self._pool_closing,
        }

    def handle(self, events: Iterable[Any], now_ms: int) -> list[Any]:
        """Apply events in order, then start and end what is due. Cost: linear in the idle workers above ``kept``."""
        for event in events:
            self._edges[type(event)](event, now_ms)
        self._next_ms = None
        if not self._closing:
            self._abandon_late_starts(now_ms)
            self._start(now_ms)
            self._end_idle(now_ms)
        effects, self._effects = self._effects, []
        return effects

    def close(self) -> None:
        """Start and end nothing from now on."""
        self._closing = True

    def next_deadline_ms(self) -> int | None:
        return self._next_ms

    def _pool_closing(self, event: PoolClosing, now_ms: int) -> None:
        self._kept = self._prestart = self._worker_idle_ms = 0

    def _workers_lacking(self, event: WorkersLacking, now_ms: int) -> None:
        self._lacking[event.environment] = event.count

    def _worker_registered(self, event: WorkerRegistered, now_ms: int) -> None:
        environment, _ = self._starting.pop(event.start_id)
        # The newcomer is one that was lacking; the lease manager says the new level in a moment.
        self._lacking[environment] = max(0, self._lacking.get(environment, 0) - 1)
        self._members[event.worker] = _Member(environment, PoolState.IDLE, now_ms)
        self._failures = 0
        self._paused_until_ms = 0

    def _worker_start_failed(self, event: WorkerStartFailed, now_ms: int) -> None:
        if self._starting.pop(event.start_id, None) is None:
            return
        pause_ms = min(FAILED_START_PAUSE_MS << self._failures, FAILED_START_PAUSE_MS_MAX)
        self._failures = min(self._failures + 1, 10)
        self._paused_until_ms = now_ms + pause_ms

    def _worker_busy(self, event: WorkerBusy, now_ms: int) -> None:
        member = self._members.get(event.worker)
        if member is None:
            return
        member.state = PoolState.BUSY
        member.refusals = 0
        if event.dedicated:
            self._dedicated[event.worker] = self._members.pop(event.worker)

    def _worker_idle(self, event: WorkerIdle, now_ms: int) -> None:
        member = self._members.get(event.worker)
        if member is not None:
            member.state = PoolState.IDLE
            member.since_ms = now_ms

    def _worker_unwanted(self, event: WorkerUnwanted, now_ms: int) -> None:
        member = self._members.get(event.worker)
        if member is not None and member.state is PoolState.IDLE:
            self._ask_to_end(event.worker, member, now_ms)

    def _ask_to_end(self, worker: bytes, member: _Member, now_ms: int) -> None:
        member.state = PoolState.ENDING
        member.since_ms = now_ms
        self._effects.append(EndWorker(worker))

    def _worker_left(self, event: WorkerLeft, now_ms: int) -> None:
        self._members.pop(event.worker, None)
        self._dedicated.pop(event.worker, None)

    def _abandon_late_starts(self, now_ms: int) -> None:
        for start_id, (_, since_ms) in list(self._starting.items()):
            if since_ms + self._start_timeout_ms <= now_ms:
                self._effects.append(AbandonStart(start_id, now_ms - since_ms))
                self._worker_start_failed(WorkerStartFailed(start_id), now_ms)
            else:
                self._call_at(since_ms + self._start_timeout_ms)

    def _start(self, now_ms: int) -> None:
        starting: dict[str, int] = {}
        for environment, _ in self._starting.values():
            starting[environment] = starting.get(environment, 0) + 1
        wanted = dict(self._lacking)
        wanted[PLAIN_ENVIRONMENT] = max(wanted.get(PLAIN_ENVIRONMENT, 0), self._prestart - len(self._members))
        for environment, count in wanted.items():
            for _ in range(count - starting.get(environment, 0)):
                if len(self._starting) >= self._parallel_starts_max:
                    return
                if self._paused_until_ms > now_ms:
                    self._call_at(self._paused_until_ms)
                    return
                self._last_start_id += 1
                self._starting[self._last_start_id] = (environment, now_ms)
                self._call_at(now_ms + self._start_timeout_ms)
                self._effects.append(StartWorker(self._last_start_id, environment))

    def _end_idle(self, now_ms: int) -> None:
        general = len(self._members)
        for worker, member in self._members.items():
            if member.state is PoolState.ENDING:
                if member.since_ms + STAY_MS <= now_ms:
                    member.state = PoolState.IDLE
                    member.since_ms = now_ms
                    member.refusals += 1
                    self._effects.append(WorkerStayed(worker))
                else:
                    self._call_at(member.since_ms + STAY_MS)
                    general -= 1
        for worker, member in self._members.items():
            if member.state is not PoolState.IDLE:
                continue
            if general <= self._kept and member.environment == PLAIN_ENVIRONMENT:
                continue
            # Who stayed once stays for a reason: it is asked again, less and less often.
            due_ms = member.since_ms + (self._worker_idle_ms << min(member.refusals, 6))
            if due_ms <= now_ms:
                self._ask_to_end(worker, member, now_ms)
                general -= 1
                self._call_at(now_ms + STAY_MS)
            else:
                self._call_at(due_ms)

    def _call_at(self, moment_ms: int) -> None:
        self._next_ms = moment_ms if self._next_ms is None else min(self._next_ms, moment_ms)

    def statistics(self) -> dict[str, int]:
        """Counts of starting, idle, busy and ending workers."""
        counts = {"starting": len(self._starting), "IDLE": 0, "BUSY": len(self._dedicated), "ENDING": 0}
        for member in self._members.values():
            counts[member.state.value] += 1
        return counts

    def check_invariants(self) -> None:
        """Raise AssertionError naming the first broken invariant."""
        assert len(self._starting) <= self._parallel_starts_max, "Too many workers are starting at once."
        assert all(member.state is PoolState.BUSY for member in self._dedicated.values()), "An idle actor."
        assert not self._members.keys() & self._dedicated.keys(), "A worker is counted twice."

    def story(self, key: bytes) -> str:
        """What is known of one worker."""
        member = self._members.get(key) or self._dedicated.get(key)
        return "" if member is None else f"{member.state.value} since {member.since_ms} ms, {member.refusals} refusals."
