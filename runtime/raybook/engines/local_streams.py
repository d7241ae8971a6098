"""Local streams: the items of generators in local mode.

A generator runs to its end before ``.remote()`` returns, as every task here does; its items lie in the object table from
then on, each counted once until somebody takes it, and after them an end mark. So backpressure has nothing to pause, and
a generator without end does not come back. Knows nothing of how it ran.
"""

from __future__ import annotations

from typing import Any

import msgspec

from raybook.base.ids import return_id
from raybook.base.specs import END_OF_STREAM, ErrorValue
from raybook.engines.local_objects import LocalObjects


class LocalStream(msgspec.Struct):
    """made: items and the error, if any; consumed: how many of them were handed out."""

    made: int = 0
    consumed: int = 0
    has_ended: bool = False
    is_dropped: bool = False


class LocalStreams:
    """All methods may be called from any thread."""

    def __init__(self, objects: LocalObjects) -> None:
        self._objects = objects
        self._streams: dict[bytes, LocalStream] = {}

    def begin(self, task_id: bytes) -> None:
        """A generator was submitted: its first item, or its end, can be waited for."""
        self._streams[task_id] = LocalStream()
        self._objects.add(return_id(task_id, 1))

    def finish(self, task_id: bytes, items: list[Any]) -> list[bytes]:
        """It has ended with these items, an error among them. Returns actors' ids, as ``LocalObjects.drop`` does."""
        stream = self._streams[task_id]
        stream.made = len(items)
        end = ErrorValue(END_OF_STREAM, "The generator has no more items.")
        orphans: list[bytes] = []
        for index, item in enumerate([*items, end], 1):
            key = return_id(task_id, index)
            if index > 1:
                self._objects.add(key)
            orphans += self._objects.fill(key, item)
        stream.has_ended = True
        return orphans + (self.drop(task_id) if stream.is_dropped else [])

    def peek(self, task_id: bytes, index: int) -> bool | None:
        """As ``Engine.peek_item``."""
        stream = self._streams.get(task_id)
        if stream is None or not stream.has_ended:
            return None
        return index <= stream.made

    def take(self, task_id: bytes, index: int) -> None:
        """An item was handed out, and its count with it."""
        stream = self._streams[task_id]
        if index <= stream.consumed:
            self._objects.hold((return_id(task_id, index),))
        stream.consumed = max(stream.consumed, index)

    def drop(self, task_id: bytes) -> list[bytes]:
        """Nobody will take any more. Returns as ``finish``."""
        stream = self._streams.get(task_id)
        if stream is None:
            return []
        stream.is_dropped = True
        if not stream.has_ended:
            return []
        del self._streams[task_id]
        return self._objects.drop(return_id(task_id, index) for index in range(stream.consumed + 1, stream.made + 2))
