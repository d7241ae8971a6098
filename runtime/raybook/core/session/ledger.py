"""Ledger: what the client of a session refers to, counted, and what its former processes referred to.

The owner machine of the session process counts references of this process; the ledger knows whose those are. When another
process takes the session over, everything that the earlier one held is *kept*: it can be listed, and taken again by id or
by name. Knows nothing of values. Invariants: counts are positive; an id that is kept has a count in the owner for every
one here.
"""

from __future__ import annotations

from typing import Any

import msgspec

from raybook.base.ids import ACTOR_ID_BYTES, FIRST_RETURN, is_stream, return_id, stream_id, task_of
from raybook.base.specs import STREAMING

OBJECT = "object"
STREAM = "stream"
ACTOR = "actor"


class Origin(msgspec.Struct, gc=False):
    """Where a task's results come from, for people."""

    name: str
    call_site: str = ""
    submitted_s: float = 0.0


class Ledger:
    def __init__(self) -> None:
        self.held: dict[bytes, int] = {}
        """By id: counts of the client's present process."""
        self.kept: dict[bytes, int] = {}
        """Of its former ones."""
        self.names: dict[str, bytes] = {}
        """What the user called them."""
        self.origins: dict[bytes, Origin] = {}
        """By task or actor id, as long as something of it is counted."""
        self.handles: dict[bytes, bytes] = {}
        """By actor id."""
        self.next_items: dict[bytes, int] = {}
        """By task id: of streams, the item that was not taken yet."""
        self._alive: dict[bytes, int] = {}
        """By task or actor id: how many counted ids belong to it."""

    # Counting

    def submitted(self, task_id: bytes, num_returns: int, origin: Origin) -> None:
        """A task or call of the client's: its results are counted once."""
        self.origins[task_id] = origin
        if num_returns == 1:
            self.hold(task_id + FIRST_RETURN)
        elif num_returns < 0:
            self.hold(task_id + FIRST_RETURN)
            if num_returns == STREAMING:
                self.hold(stream_id(task_id))
                self.next_items[task_id] = 1
        else:
            for index in range(num_returns):
                self.hold(return_id(task_id, index))
        if not self._alive.get(task_id):
            self.origins.pop(task_id, None)

    def hold(self, key: bytes) -> None:
        """One more."""
        if key in self.held:
            self.held[key] += 1
            return
        self.held[key] = 1
        if key not in self.kept:
            self._began(key)

    def taken(self, task_id: bytes, index: int) -> None:
        """The client took an item of a stream."""
        self.next_items[task_id] = index + 1
        self.hold(return_id(task_id, index))

    def release(self, key: bytes) -> bool:
        """One fewer. False when it was not counted: then the owner must not hear of it."""
        count = self.held.get(key, 0)
        if count > 1:
            self.held[key] = count - 1
        elif count == 1:
            del self.held[key]
            if key not in self.kept:
                self._ended(key)
        return count > 0

    def is_counted(self, key: bytes) -> bool:
        return key in self.held or key in self.kept

    # Another process

    def change_hands(self) -> None:
        """The client's process is another one from now on."""
        for key, count in self.held.items():
            self.kept[key] = self.kept.get(key, 0) + count
        self.held.clear()

    def name(self, key: bytes, name: str) -> bytes | None:
        """Keep it under this name, also when nobody refers to it any more. The owner is to add a count for the name, and
        to give up one of what it was before, which is returned."""
        before = self.names.get(name)
        if before is not None:
            self._unname(before)
        self.names[name] = key
        if not self.is_counted(key):
            self._began(key)
        self.kept[key] = self.kept.get(key, 0) + 1
        return before

    def take(self, key: bytes) -> int | None:
        """The present process refers to it again. How many counts the owner is to give up (-1: it needs one more); None:
        it is not kept."""
        count = self.kept.get(key, 0)
        if not count:
            return None
        named = list(self.names.values()).count(key)
        if named:
            self.kept[key] = named
        else:
            del self.kept[key]
        self.held[key] = self.held.get(key, 0) + 1
        return count - named - 1

    def forget(self, key: bytes) -> int:
        """It is no longer kept, nor named. How many counts the owner is to give up."""
        self.names = {name: named for name, named in self.names.items() if named != key}
        count = self.kept.pop(key, 0)
        if count and key not in self.held:
            self._ended(key)
        return count

    def _unname(self, key: bytes) -> None:
        self.kept[key] -= 1
        if not self.kept[key]:
            del self.kept[key]
            if key not in self.held:
                self._ended(key)

    # Looks

    def kind(self, key: bytes) -> str:
        if len(key) == ACTOR_ID_BYTES:
            return ACTOR
        return STREAM if is_stream(key) else OBJECT

    def rows(self) -> list[dict[str, Any]]:
        """What is kept, in the order in which it was made."""
        names = {key: name for name, key in self.names.items()}
        found = []
        for key in self.kept:
            origin = self.origins.get(self._source(key)) or Origin("")
            found.append(
                {
                    "key": key,
                    "kind": self.kind(key),
                    "name": names.get(key, ""),
                    "what": origin.name,
                    "call_site": origin.call_site,
                    "submitted_s": origin.submitted_s,
                    "handle": self.handles.get(key, b""),
                    "next_index": self.next_items.get(self._source(key), 1),
                }
            )
        return found

    def check_invariants(self) -> None:
        """AssertionError."""
        assert all(count > 0 for count in self.held.values()), "a count of nothing is held"
        assert all(count > 0 for count in self.kept.values()), "a count of nothing is kept"
        assert all(self.kept.get(key) for key in self.names.values()), "a name of nothing"
        alive: dict[bytes, int] = {}
        for key in self.held.keys() | self.kept.keys():
            source = self._source(key)
            alive[source] = alive.get(source, 0) + 1
        assert alive == self._alive, "what belongs to a task was miscounted"

    def _source(self, key: bytes) -> bytes:
        return key if len(key) == ACTOR_ID_BYTES else task_of(key)

    def _began(self, key: bytes) -> None:
        source = self._source(key)
        self._alive[source] = self._alive.get(source, 0) + 1

    def _ended(self, key: bytes) -> None:
        source = self._source(key)
        left = self._alive[source] - 1
        if left:
            self._alive[source] = left
            return
        del self._alive[source]
        self.origins.pop(source, None)
        self.handles.pop(source, None)
        self.next_items.pop(source, None)
