"""Memory policy: when memory of a node runs short, what gives way, and in which order.

First the object store writes to disk (a worker that is ended frees no shared memory), then an idle worker that has kept
much is asked to leave, then one worker is ended, whose task or actor fails or is tried again. It knows readings, not
where they come from; drivers are no candidates, so none is ever ended.

    state \\ reading   in order   short                         short and critical
    CALM              –          SHRINKING, or as SHRINKING     ends a worker
    SHRINKING         CALM       waits while the store shrinks, ends a worker
                                 then ends a worker
    ENDING            (its victim's end is awaited, whatever the reading, for VICTIM_MS at most)
    COOLING           (a pause after an end, for the kernel to take the pages back)

Whom: those that hold next to nothing come last; of the others the retriable ones first, then the owner with the most
of them (so that everybody's last one is spared longest), then the one that began latest. A victim with no company is not
tried again: it would fill the memory once more.
Invariants: one victim at a time; a victim is a candidate of the same reading.
Source: Ray's worker killing policies (retriable first, grouped by owner, newest first) and its threshold of 95 %.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterable, Sequence
from enum import Enum

from msgspec import Struct

SHRINK_MS_MAX = 5_000
"""The store is waited for no longer than this, however fast it shrinks."""
SHRINK_STALL_MS = 1_000
"""A store that has not shrunk for so long has nothing more to give: its objects are looked at."""
STORE_BYTES_MIN = 16 << 20
"""A store smaller than this is not worth waiting for."""
VICTIM_MS = 5_000
"""A process that is not dead so long after SIGKILL hangs in the kernel; others are looked at."""
COOL_DOWN_MS = 500
"""The kernel needs a moment to take back what a dead process had."""
SMALL_SHARE = 0.01
"""Of the limit: ending a worker that holds less frees next to nothing."""
SMALL_BYTES_MIN = 40 << 20
"""As much as a worker holds that has done nothing yet (24 MiB, and what user code imports)."""
COMPLAINT_MS = 60_000
"""Memory that goes up and down around the threshold is no news each time."""
STORY_EVENTS_MAX = 256


class State(Enum):
    CALM = "there is memory enough"
    SHRINKING = "the object store shrinks"
    ENDING = "a worker is being ended"
    COOLING = "a worker has ended, or is asked to"


# --- events -----------------------------------------------------------------------------------------------------------


class Candidate(Struct, frozen=True):
    """A worker that may be ended. owner: whose work it does, b"" for none (idle). started_ms: when it was leased.
    private_bytes: what would come back."""

    worker: bytes
    owner: bytes
    started_ms: int
    private_bytes: int
    is_retriable: bool

    @property
    def is_idle(self) -> bool:
        return not self.owner


class Reading(Struct, frozen=True):
    """used_bytes of limit_bytes are in use; store_bytes of them by objects in shared memory."""

    used_bytes: int
    limit_bytes: int
    store_bytes: int = 0
    candidates: Sequence[Candidate] = ()


class WorkerEnded(Struct, frozen=True):
    """A worker's process is gone, for whatever reason."""

    worker: bytes


Event = Reading | WorkerEnded

# --- effects ----------------------------------------------------------------------------------------------------------


class ShrinkStore(Struct, frozen=True):
    """So many bytes of the store should go to disk; 0: it may be as it was."""

    to_free_bytes: int


class EndIdle(Struct, frozen=True):
    """Ask this idle worker to leave. It may stay: it may own what others need."""

    worker: bytes


class EndWorker(Struct, frozen=True):
    """End this worker now. has_company: others hold memory too, so that another try may find more of it."""

    worker: bytes
    has_company: bool


class NobodyToEnd(Struct, frozen=True):
    """Memory is short, and no worker is the cause. Said once for each time that it runs short, once a minute at most."""


Effect = ShrinkStore | EndIdle | EndWorker | NobodyToEnd


class MemoryPolicy:
    """One per node. threshold: share of the limit from which memory is short. A machine as in `base/machine.py`."""

    def __init__(self, threshold: float) -> None:
        self._threshold = threshold
        self._critical = (1 + threshold) / 2
        self.state = State.CALM
        self._since_ms = 0
        self._store_bytes_least = 0
        self._shrunk_ms = 0
        self._victim = b""
        self._asked: dict[bytes, None] = {}
        self._complained = False
        self._quiet_until_ms = 0
        self._is_shrinking = False
        self._events: deque[tuple[bytes, str]] = deque(maxlen=STORY_EVENTS_MAX)
        self._effects: list[Effect] = []
        self._now_ms = 0

    def handle(self, events: Iterable[Event], now_ms: int) -> list[Effect]:
        """Apply events in order. Cost: 1 µs while all is well, and 1 µs a candidate while it is not."""
        self._now_ms = now_ms
        for event in events:
            if isinstance(event, Reading):
                self._read(event)
            elif event.worker == self._victim:
                self._victim = b""
                self._move(State.COOLING, event.worker, "its victim is gone")
        effects, self._effects = self._effects, []
        return effects

    @property
    def is_calm(self) -> bool:
        """Whether readings that are in order need not be told."""
        return self.state is State.CALM and not self._is_shrinking

    def is_short(self, used_bytes: int, limit_bytes: int) -> bool:
        """Whether a reading is above the threshold."""
        return used_bytes > self._threshold * limit_bytes

    # Readings

    def _read(self, reading: Reading) -> None:
        if not self.is_short(reading.used_bytes, reading.limit_bytes):
            self._recover()
        elif self.state is State.ENDING:
            if self._now_ms - self._since_ms >= VICTIM_MS:
                self._end_somebody(reading)
        elif self.state is State.COOLING:
            if self._now_ms - self._since_ms >= COOL_DOWN_MS:
                self._relieve(reading)
        else:
            self._relieve(reading)

    def _recover(self) -> None:
        if self._is_shrinking:
            self._is_shrinking = False
            self._effects.append(ShrinkStore(0))
        self._complained = False
        self._asked.clear()
        if self.state is State.SHRINKING or (
            self.state is State.COOLING and self._now_ms - self._since_ms >= COOL_DOWN_MS
        ):
            self._move(State.CALM, b"", "there is memory enough again")

    def _relieve(self, reading: Reading) -> None:
        """The store first, unless it has nothing to give, or there is no time."""
        store_bytes = reading.store_bytes
        to_free = min(store_bytes, int(reading.used_bytes - self._threshold * reading.limit_bytes) + 1)
        if store_bytes >= STORE_BYTES_MIN:
            self._is_shrinking = True
            self._effects.append(ShrinkStore(to_free))
        if self.state is not State.SHRINKING:
            if store_bytes < STORE_BYTES_MIN:
                self._end_somebody(reading)
                return
            self._move(State.SHRINKING, b"", f"the store should give back {to_free} bytes")
            self._store_bytes_least, self._shrunk_ms = store_bytes, self._now_ms
        elif store_bytes < self._store_bytes_least:
            self._store_bytes_least, self._shrunk_ms = store_bytes, self._now_ms
        is_stuck = self._now_ms - self._shrunk_ms >= SHRINK_STALL_MS
        if self._is_critical(reading) or is_stuck or self._now_ms - self._since_ms >= SHRINK_MS_MAX:
            self._end_somebody(reading)

    def _is_critical(self, reading: Reading) -> bool:
        return reading.used_bytes > self._critical * reading.limit_bytes

    def _end_somebody(self, reading: Reading) -> None:
        small_bytes = max(SMALL_BYTES_MIN, SMALL_SHARE * reading.limit_bytes)
        large = [candidate for candidate in reading.candidates if candidate.private_bytes >= small_bytes]
        hoarders = [one.worker for one in large if one.is_idle and one.worker not in self._asked]
        for worker in hoarders:
            self._asked[worker] = None
            self._effects.append(EndIdle(worker))
        if hoarders and not self._is_critical(reading):
            self._move(State.COOLING, hoarders[0], "an idle worker is asked to leave")
            return
        busy = [candidate for candidate in reading.candidates if not candidate.is_idle]
        if not busy:
            if not self._complained and self._now_ms >= self._quiet_until_ms:
                self._complained = True
                self._quiet_until_ms = self._now_ms + COMPLAINT_MS
                self._effects.append(NobodyToEnd())
            return
        victim = choose(busy, small_bytes)
        company = [candidate for candidate in large if candidate.worker != victim.worker and not candidate.is_idle]
        self._victim = victim.worker
        self._effects.append(EndWorker(victim.worker, bool(company)))
        self._move(State.ENDING, victim.worker, f"ended with {victim.private_bytes} bytes of its own")

    def _move(self, state: State, worker: bytes, why: str) -> None:
        self.state = state
        self._since_ms = self._now_ms
        self._events.append((worker, f"{self._now_ms} ms: {state.name}: {why}"))

    # Views

    def next_deadline_ms(self) -> int | None:
        """None: readings come by themselves, and decide everything."""
        return None

    def story(self, key: bytes) -> str:
        """What was decided about a worker, a line each."""
        return "\n".join(text for worker, text in self._events if worker == key)

    def check_invariants(self) -> None:
        assert bool(self._victim) <= (self.state is State.ENDING), "A victim is awaited in another state."
        assert 0 <= self._threshold <= self._critical, "The critical share lies below the threshold."


def choose(busy: Sequence[Candidate], small_bytes: float) -> Candidate:
    """The one to end; see the module for the order. busy: at least one. Ties go to the larger, then to the last."""
    of_owner = Counter(candidate.owner for candidate in busy if candidate.is_retriable)
    return max(
        busy,
        key=lambda one: (
            one.private_bytes >= small_bytes,
            one.is_retriable,
            of_owner[one.owner] if one.is_retriable else 0,
            one.started_ms,
            one.private_bytes,
        ),
    )
