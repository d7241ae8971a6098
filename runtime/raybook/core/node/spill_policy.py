"""Spill policy: when objects of a node's store go to disk, which owner is asked, and how many bytes at a time.

Only an owner knows which of its objects nobody looks at, so the policy asks one owner after another, the largest holder
first: choose (owner) → write (a thread) → let go (owner). A round ends when the owner has let go; then the level is
looked at again. It knows neither objects nor files, and nothing of who waits for room but how much.

    NOTHING → ASKED → WRITING → TOLD → NOTHING

Rounds begin above the threshold and go on until a batch below it, so that the store is not at its edge all the time;
or while a request waits that does not fit. An owner with nothing to offer is *dry* for a while. When all are dry, or
the disk takes nothing, a waiting request is told so.

Invariants: one round at a time; an answer of an earlier round changes nothing; every waiting request is told of its end
at most once per request. Source: Ray's local object manager (threshold 0.8, 100 MB at a time).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from enum import Enum

import msgspec

from raybook.protocol.messages.store import SpilledItem, SpillItem

# An owner whose interpreter is stuck does not hold up the others.
ANSWER_TIMEOUT_MS = 5_000
# Views go and tasks end: an owner with nothing to offer is asked again after this.
DRY_MS = 500
# A disk that was full is tried again after this.
DISK_PAUSE_MS = 5_000
# What an owner freed in the extents of a worker comes back a message or two later.
RETURN_MS = 200
# One file: large enough for the disk, small enough that room comes back while more is written.
FILE_BYTES_MAX = 256 << 20
STORY_EVENTS_MAX = 1_024


class Stage(Enum):
    ASKED = "the owner chooses"
    WRITING = "a file is written"
    TOLD = "the owner lets go"


# --- events -----------------------------------------------------------------------------------------------------------


class Level(msgspec.Struct, frozen=True):
    """How full the store is. wanted_bytes: of the first request that waits for spilling, 0 if none does; request: its
    number. owners: who may have objects here, the largest holder first. returned_bytes: all that was ever given back.
    target_bytes: what the node can spare for it while its memory is short, None while it is not."""

    used_bytes: int
    wanted_bytes: int
    request: int
    owners: list[bytes]
    returned_bytes: int
    target_bytes: int | None = None


class Chosen(msgspec.Struct, frozen=True):
    client_id: bytes
    query_id: int
    items: list[SpillItem]


class Written(msgspec.Struct, frozen=True):
    """The write is over. No items: it failed, and ``trouble`` says why."""

    query_id: int
    path: str
    items: list[SpilledItem]
    trouble: str = ""


class LetGo(msgspec.Struct, frozen=True):
    client_id: bytes
    query_id: int
    freed_bytes: int


class OwnerDied(msgspec.Struct, frozen=True):
    client_id: bytes


Event = Level | Chosen | Written | LetGo | OwnerDied

# --- effects ----------------------------------------------------------------------------------------------------------


class AskOwner(msgspec.Struct, frozen=True):
    client_id: bytes
    query_id: int
    bytes_wanted: int


class WriteFile(msgspec.Struct, frozen=True):
    client_id: bytes
    query_id: int
    items: list[SpillItem]


class TellOwner(msgspec.Struct, frozen=True):
    client_id: bytes
    query_id: int
    path: str
    items: list[SpilledItem]


class DropFile(msgspec.Struct, frozen=True):
    """The owner died while its file was written."""

    path: str


class GiveUp(msgspec.Struct, frozen=True):
    """Nothing more can go to disk now; the waiting request is to be answered without.

    trouble: "" or what the disk said."""

    request: int
    trouble: str


Effect = AskOwner | WriteFile | TellOwner | DropFile | GiveUp


class Round(msgspec.Struct):
    query_id: int
    client_id: bytes
    stage: Stage
    deadline_ms: int
    used_before: int
    returned_before: int


class SpillPolicy:
    """One per store. A machine as in `base/machine.py`."""

    def __init__(self, capacity_bytes: int, threshold: float, batch_bytes: int) -> None:
        self._capacity_bytes = capacity_bytes
        self.threshold_bytes = int(capacity_bytes * threshold)
        self._low_bytes = self.threshold_bytes - min(batch_bytes, capacity_bytes // 8)
        self._level = Level(0, 0, 0, [], 0)
        self._round: Round | None = None
        self._next_query_id = 1
        self._dry: dict[bytes, int] = {}
        self._disk_pause_until_ms = 0
        self._trouble = ""
        self._given_up = 0
        self._expected = (0, 0)
        self._events: deque[str] = deque(maxlen=STORY_EVENTS_MAX)
        self._effects: list[Effect] = []
        self._now_ms = 0
        self._edges: dict[type, Callable[..., None]] = {
            Level: self._on_level,
            Chosen: self._on_chosen,
            Written: self._on_written,
            LetGo: self._on_let_go,
            OwnerDied: self._on_owner_died,
        }

    def handle(self, events: Iterable[Event], now_ms: int) -> list[Effect]:
        """Apply events in order; the effects to execute. Cost: 1 µs, and an owner look-up for each that is dry."""
        self._now_ms = now_ms
        for event in events:
            self._edges[type(event)](event)
        if self._round is not None and self._round.stage is not Stage.WRITING and now_ms >= self._round.deadline_ms:
            self._end_round(freed_bytes=0)
        if self._round is None:
            self._begin()
        effects, self._effects = self._effects, []
        return effects

    def next_deadline_ms(self) -> int | None:
        """When a silent owner is given up; or when dry owners, or a full disk, are tried again for a full store."""
        if self._round is not None:
            return None if self._round.stage is Stage.WRITING else self._round.deadline_ms
        if self._now_ms < self._expected[1] and self._level.used_bytes > self._high_bytes():
            return self._expected[1]
        if self._bytes_to_free() <= 0:
            return None
        waits = [until for until in self._dry.values() if until > self._now_ms]
        if self._disk_pause_until_ms > self._now_ms:
            waits.append(self._disk_pause_until_ms)
        return min(waits, default=None)

    @property
    def is_active(self) -> bool:
        """Whether a round is under way."""
        return self._round is not None

    # Rounds

    def _high_bytes(self) -> int:
        target_bytes = self._level.target_bytes
        return self.threshold_bytes if target_bytes is None else min(self.threshold_bytes, target_bytes)

    def _bytes_to_free(self) -> int:
        level = self._level
        used = level.used_bytes
        expected, until_ms = self._expected
        if self._now_ms < until_ms:
            used = min(used, expected)
        to_free = used - self._low_bytes if used > self.threshold_bytes else 0
        if level.target_bytes is not None:
            to_free = max(to_free, used - level.target_bytes)
        if level.wanted_bytes:
            to_free = max(to_free, level.used_bytes + level.wanted_bytes - self._capacity_bytes)
        return to_free

    def _begin(self) -> None:
        to_free = self._bytes_to_free()
        if to_free <= 0:
            return
        owner = None
        if self._now_ms >= self._disk_pause_until_ms:
            owner = next((one for one in self._level.owners if self._dry.get(one, 0) <= self._now_ms), None)
        if owner is None:
            self._give_up()
            return
        query_id = self._next_query_id
        self._next_query_id += 1
        deadline_ms = self._now_ms + ANSWER_TIMEOUT_MS
        self._round = Round(
            query_id, owner, Stage.ASKED, deadline_ms, self._level.used_bytes, self._level.returned_bytes
        )
        self._effects.append(AskOwner(owner, query_id, min(to_free, FILE_BYTES_MAX)))

    def _give_up(self) -> None:
        level = self._level
        if level.wanted_bytes and self._given_up != level.request:
            self._given_up = level.request
            trouble = self._trouble if self._now_ms < self._disk_pause_until_ms else ""
            self._effects.append(GiveUp(level.request, trouble))
            self._note(f"gave up for a request of {level.wanted_bytes} bytes")

    def _end_round(self, freed_bytes: int) -> None:
        ended = self._round
        assert ended is not None
        self._round = None
        if freed_bytes:
            self._expected = (ended.used_before - freed_bytes, self._now_ms + RETURN_MS)
            self._dry.clear()
        elif self._level.returned_bytes == ended.returned_before:
            # It has not even returned room in which nothing lay. (What is used says little: it is granted anew at once.)
            self._dry[ended.client_id] = self._now_ms + DRY_MS
        self._note(f"round {ended.query_id} freed {freed_bytes} bytes of {ended.client_id.hex()}")

    # Edges

    def _on_level(self, event: Level) -> None:
        if event.request != self._level.request:
            # A new request: what was dry for the one before may have something by now.
            self._dry.clear()
        self._level = event

    def _is_awaited(self, stage: Stage, query_id: int) -> Round | None:
        found = self._round
        return found if found is not None and found.query_id == query_id and found.stage is stage else None

    def _on_chosen(self, event: Chosen) -> None:
        found = self._is_awaited(Stage.ASKED, event.query_id)
        if found is None:
            return
        if not event.items:
            self._end_round(freed_bytes=0)
            return
        found.stage = Stage.WRITING
        self._effects.append(WriteFile(found.client_id, found.query_id, event.items))

    def _on_written(self, event: Written) -> None:
        found = self._is_awaited(Stage.WRITING, event.query_id)
        if found is None:
            # Its owner died meanwhile.
            if event.path:
                self._effects.append(DropFile(event.path))
            return
        if not event.items:
            self._disk_pause_until_ms = self._now_ms + DISK_PAUSE_MS
            self._trouble = event.trouble
            self._note(f"the disk took nothing: {event.trouble}")
        found.stage = Stage.TOLD
        found.deadline_ms = self._now_ms + ANSWER_TIMEOUT_MS
        self._effects.append(TellOwner(found.client_id, found.query_id, event.path, event.items))

    def _on_let_go(self, event: LetGo) -> None:
        if self._is_awaited(Stage.TOLD, event.query_id) is not None:
            self._end_round(event.freed_bytes)

    def _on_owner_died(self, event: OwnerDied) -> None:
        self._dry.pop(event.client_id, None)
        if self._round is not None and self._round.client_id == event.client_id:
            self._round = None

    def _note(self, text: str) -> None:
        self._events.append(text)

    def story(self, key: bytes) -> str:
        """The last rounds that mention the client, a line each."""
        return "\n".join(text for text in self._events if key.hex() in text)

    def check_invariants(self) -> None:
        assert 0 <= self._low_bytes <= self.threshold_bytes <= self._capacity_bytes
        assert self._round is None or self._round.query_id < self._next_query_id
