"""Session mirror: what a thin client knows of the owner machine on the head, under the names that the native engine uses.

Values that have arrived, and counts where an engine counts without a message. Written by whoever turns the link. Invariant:
what is not here is not known, and is looked at again; nothing is decided by what is.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Any

from raybook.base.specs import Value

MIRROR_BYTES_MAX = 256 << 20
MIRROR_ITEMS_MAX = 100_000


class Mirror(OrderedDict[bytes, Value]):
    """Values that arrived, the oldest first; beyond its limits the oldest go. Written by whoever turns the link."""

    def __init__(self) -> None:
        super().__init__()
        self._bytes = 0

    def add(self, key: bytes, value: Value) -> None:
        self.drop(key)
        self[key] = value
        self._bytes += _size(value)
        while self._bytes > MIRROR_BYTES_MAX or len(self) > MIRROR_ITEMS_MAX:
            first = next(iter(self))
            if first == key:
                break
            self.drop(first)

    def drop(self, key: bytes) -> None:
        value = self.pop(key, None)
        if value is not None:
            self._bytes -= _size(value)


class _Objects:
    def __init__(self) -> None:
        self.values = Mirror()


class EndedCalls:
    """As much of an actor's queue as counting needs: how many of its calls are over."""

    __slots__ = ("ended",)

    def __init__(self) -> None:
        self.ended = 0


class _Actors:
    def __init__(self) -> None:
        self.queues: dict[bytes, EndedCalls] = {}


class _Generators:
    """Of every stream the session decides whether its producer waits for this."""

    def has_window(self, task_id: bytes) -> bool:
        return True


class _References:
    """Counts of what came to life here by ``HoldRef`` alone."""

    def __init__(self) -> None:
        self._counts: dict[bytes, int] = {}

    def hold(self, key: bytes) -> None:
        self._counts[key] = self._counts.get(key, 0) + 1

    def release(self, key: bytes) -> None:
        count = self._counts.get(key, 0)
        if count > 1:
            self._counts[key] = count - 1
        elif count:
            del self._counts[key]

    def is_alive(self, key: bytes) -> bool:
        return key in self._counts


class _Leases:
    job: Any = None


class MirroredOwner:
    """As much of the owner machine as the engine looks at."""

    def __init__(self, explain: Callable[[bytes], str]) -> None:
        """explain: why an object is not ready, for people; asks the session."""
        self.explain = explain
        self.objects = _Objects()
        self.actors = _Actors()
        self.generators = _Generators()
        self.leases = _Leases()
        self.references = _References()


class NoFacts:
    """The session tells facts of what it runs."""

    largest_objects: Any = None

    def register(self, stats: Any) -> None:
        pass

    def retire(self, stats: Any) -> None:
        pass


def _size(value: Value) -> int:
    return 100 + (len(value.inline) if value.inline is not None else 0)
