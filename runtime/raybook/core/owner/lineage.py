"""Lineage: the record of how to make objects again.

A finished task whose results lie in some arena is kept as long as one of these results lives, or a kept task takes one of
them. The records of all together are bounded by bytes; the oldest go first, and that they went is remembered, so that who
misses an object is told why it cannot be made again.

Knows nothing of nodes. Invariants: the bytes are those of the kept records; a task is kept for a living result or a kept
task. Source: Ray's task manager (``max_lineage_bytes``, 1 GiB).
"""

from __future__ import annotations

import msgspec

from raybook.base.ids import task_of
from raybook.core.owner.dependencies import slots_of
from raybook.core.owner.records import TaskRecord

RECORD_BYTES = 600
"""What a kept task costs beside its arguments."""
DROPPED_MAX = 65_536
"""So many tasks are remembered by their id alone."""


class Kept(msgspec.Struct):
    """A finished task. results: those of its results that live in an arena. producers: kept tasks, when it was kept, whose
    results it takes; each counts it among its dependents."""

    record: TaskRecord
    size: int
    results: dict[bytes, bool]
    producers: list[Kept]
    dependents: int = 0


class Lineage:
    """One per owner machine. bytes_max: of all records together."""

    def __init__(self, bytes_max: int) -> None:
        self.bytes_max = bytes_max
        self._bytes = 0
        self._kept: dict[bytes, Kept] = {}
        """In the order of their ends."""
        self._dropped: dict[bytes, None] = {}

    def find(self, key: bytes) -> Kept | None:
        """How an object was made. From any thread."""
        return self._kept.get(task_of(key))

    def was_dropped(self, key: bytes) -> bool:
        """Whether the record of how it was made was dropped for lack of room."""
        return task_of(key) in self._dropped

    def keep(self, record: TaskRecord, results: dict[bytes, bool]) -> None:
        """A task has ended well, perhaps once more, and these of its results lie in an arena."""
        task_id = record.spec.task_id
        known = self._kept.get(task_id)
        if known is not None:
            known.results = results
            self._look(known)
            return
        size = RECORD_BYTES + len(record.spec.args)
        size += sum(
            len(slot.value.inline)
            for slot in slots_of(record)
            if slot.value is not None and slot.value.inline is not None
        )
        takes_of = dict.fromkeys(task_of(ref.object_id) for ref in record.held or ())
        producers = [self._kept[each] for each in takes_of if each in self._kept]
        self._kept[task_id] = Kept(record, size, results, producers)
        self._bytes += size
        for producer in producers:
            producer.dependents += 1
        while self._bytes > self.bytes_max and self._kept:
            oldest = next(iter(self._kept))
            self._dropped[oldest] = None
            if len(self._dropped) > DROPPED_MAX:
                del self._dropped[next(iter(self._dropped))]
            self._drop(oldest)

    def forget(self, key: bytes) -> None:
        """An object of ours is garbage."""
        kept = self._kept.get(task_of(key))
        if kept is not None and kept.results.pop(key, False):
            self._look(kept)

    def _look(self, kept: Kept) -> None:
        if not kept.results and not kept.dependents:
            self._drop(kept.record.spec.task_id)

    def _drop(self, task_id: bytes) -> None:
        """A loop, not a recursion: a chain of tasks may be as long as the bytes allow."""
        going = [task_id]
        while going:
            kept = self._kept.pop(going.pop(), None)
            if kept is None:
                continue
            self._bytes -= kept.size
            for producer in kept.producers:
                producer.dependents -= 1
                made_by = producer.record.spec.task_id
                # One that was dropped, and kept again for a second run, is another record.
                if not producer.results and not producer.dependents and self._kept.get(made_by) is producer:
                    going.append(made_by)

    def statistics(self) -> dict[str, int]:
        return {"kept_tasks": len(self._kept), "kept_bytes": self._bytes}

    def check_invariants(self) -> None:
        """Raise AssertionError naming the first broken invariant."""
        assert self._bytes == sum(kept.size for kept in self._kept.values()), "The bytes of lineage are miscounted."
        for kept in self._kept.values():
            assert kept.results or kept.dependents > 0, "A task is kept for nothing."
            assert kept.dependents >= 0, "More dependents have gone than came."
