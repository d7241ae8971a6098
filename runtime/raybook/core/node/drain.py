"""Drain: decides whether this node may be emptied, when it is empty, and when it leaves although it is not.

    SERVING → DrainRequested → DRAINING → nothing is left at two looks in a row, or the deadline → LEFT
A node that drains grants no lease and takes no actor. What runs may finish; the rest is others' affair: owners move their
objects away (``core/owner/evacuation``), the GCS has actors start anew elsewhere (``core/cluster/actor_table``). Two looks,
because a result that has just been sealed belongs to somebody who does not know it yet.

Knows nothing of leases or stores but how many there are. Invariants: who leaves has drained; nobody comes back.
Source: Ray's drain protocol: an idle node may refuse to go when it is not idle, a preempted one is not asked.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from enum import Enum
from typing import Any

import msgspec

from raybook.base.drains import IDLE_TERMINATION, NO_DEADLINE, words_of

LOOK_MS = 50
"""So often a node that drains looks whether it is empty: it has nothing better to do, and a look costs microseconds."""
STORY_LINES_MAX = 32


class NodeLoad(msgspec.Struct, frozen=True):
    """What there is on the node. tasks: leases, also of tasks that wait in ``get``. workers: processes that stay because
    others use objects of theirs. owners: processes of other nodes with objects in this node's store; files: of such, on its
    disk."""

    tasks: int = 0
    actors: int = 0
    drivers: int = 0
    workers: int = 0
    owners: int = 0
    files: int = 0

    def is_empty(self) -> bool:
        return self == EMPTY

    def is_idle(self) -> bool:
        """Nobody computes here."""
        return not (self.tasks or self.actors or self.drivers)

    def describe(self) -> str:
        """ "2 tasks, 1 actor"."""
        named = (
            (self.tasks, "task"),
            (self.actors, "actor"),
            (self.drivers, "driver"),
            (self.workers, "worker with objects that others use"),
            (self.owners, "process elsewhere whose objects lie here"),
            (self.files, "file of objects"),
        )
        return ", ".join(f"{count} × {name}" for count, name in named if count) or "nothing"


EMPTY = NodeLoad()


class DrainRequested(msgspec.Struct, frozen=True):
    """deadline_ms: from now on, or ``NO_DEADLINE``. A second request replaces the first one's deadline."""

    reason: str
    message: str
    deadline_ms: int
    load: NodeLoad


class Looked(msgspec.Struct, frozen=True):
    """What is there now."""

    load: NodeLoad


class AnswerDrain(msgspec.Struct, frozen=True):
    """rejection: "" when it was accepted."""

    rejection: str


class StopServing(msgspec.Struct, frozen=True):
    """Grant nothing new; ask back what is lent."""

    why: str


class Leave(msgspec.Struct, frozen=True):
    """Say goodbye and end."""

    why: str


class DrainState(Enum):
    SERVING = "SERVING"
    DRAINING = "DRAINING"
    LEFT = "LEFT"


class Drain:
    """One a node; see the module's text."""

    def __init__(self) -> None:
        self.state = DrainState.SERVING
        self.why = ""
        """For people, from the first request on."""
        self._load = EMPTY
        self._deadline_ms: int | None = None
        self._was_empty = False
        self._story: list[str] = []
        self._effects: list[Any] = []
        self._now_ms = 0
        self._edges: dict[type, Callable[[Any], None]] = {DrainRequested: self._requested, Looked: self._looked}

    def handle(self, events: Iterable[Any], now_ms: int) -> list[Any]:
        """Apply events, then what time brings. Cost: 1 µs an event."""
        self._now_ms = now_ms
        for event in events:
            self._edges[type(event)](event)
        if self.state is DrainState.DRAINING and self._deadline_ms is not None and self._deadline_ms <= now_ms:
            self._leave(f"{self.why}; the deadline came with {self._load.describe()} left")
        effects, self._effects = self._effects, []
        return effects

    def next_deadline_ms(self) -> int | None:
        """When to look again."""
        if self.state is not DrainState.DRAINING:
            return None
        look_ms = self._now_ms + LOOK_MS
        return look_ms if self._deadline_ms is None else min(look_ms, self._deadline_ms)

    def _requested(self, event: DrainRequested) -> None:
        if self.state is DrainState.SERVING and event.reason == IDLE_TERMINATION and not event.load.is_idle():
            text = f"The node is not idle: it has {event.load.describe()}."
            self._tell(f"refused: {text}")
            self._effects.append(AnswerDrain(text))
            return
        self._effects.append(AnswerDrain(""))
        if self.state is DrainState.LEFT:
            return
        no_deadline = event.deadline_ms == NO_DEADLINE
        self._deadline_ms = None if no_deadline else self._now_ms + event.deadline_ms
        self._load = event.load
        if self.state is DrainState.SERVING:
            self.state = DrainState.DRAINING
            self.why = words_of(event.reason, event.message)
            self._effects.append(StopServing(self.why))
        within = "without a deadline" if no_deadline else f"within {event.deadline_ms} ms"
        self._tell(f"drains, {self.why}, {within}, with {event.load.describe()}")

    def _looked(self, event: Looked) -> None:
        if self.state is not DrainState.DRAINING:
            return
        if event.load != self._load:
            self._tell(f"has {event.load.describe()}")
        self._load = event.load
        is_empty = event.load.is_empty()
        if is_empty and self._was_empty:
            self._leave(self.why)
        self._was_empty = is_empty

    def _leave(self, why: str) -> None:
        self.state = DrainState.LEFT
        self._tell(f"leaves: {why}")
        self._effects.append(Leave(why))

    # --- looking ------------------------------------------------------------------------------------------------------

    def waiting(self) -> list[str]:
        """A line for people while it drains."""
        if self.state is not DrainState.DRAINING:
            return []
        left_ms = None if self._deadline_ms is None else max(0, self._deadline_ms - self._now_ms)
        until = "" if left_ms is None else f"; it leaves in {left_ms / 1000:.0f} s at the latest"
        return [f"This node drains ({self.why}) and waits for {self._load.describe()}{until}."]

    def story(self, key: bytes) -> str:
        """What happened, a line for each step. There is one story, whatever the key."""
        return "\n".join([f"The node is {self.state.value}.", *self._story])

    def statistics(self) -> NodeLoad:
        """What was there at the last look."""
        return self._load

    def check_invariants(self) -> None:
        """Raise AssertionError naming the first broken rule."""
        assert bool(self.why) == (self.state is not DrainState.SERVING), "A node drains for no reason."

    def _tell(self, what: str) -> None:
        if len(self._story) >= STORY_LINES_MAX:
            del self._story[1]
        self._story.append(f"{self._now_ms} ms: {what}")
