"""Generators: the streams of items that generator tasks send while they run.

    state \\ event    items of this attempt   an item is taken    the task ends         the generator is dropped
    OPEN             kept, in order          credit             → ENDED, end mark     → DROPPED, producer told to stop
    ENDED            –                       –                   –                     → gone
    DROPPED          freed, told to stop     –                  → gone                  –

Item n is the task's return number n, from 1 on; a stream counts each of its items once until somebody takes it, and
then the taker's reference has that count. After the last item stands an end mark, a value like any other: so ``wait``
and ``get`` wait for "an item, or the end" by waiting for the next id. An error is one more item. Return 0 is ready when
the task has ended.

Items that were lost with a node are *missing* until they come again: from the next attempt of a task that has not ended, or
from one that ``recovery`` starts anew, of a stream that may be gone by then. An attempt is told how many items to leave out,
and brings all after that; what was not missing is freed on arrival.

Knows nothing of workers, retries or user threads. Invariants: what has been received is 1..n without a gap; an item is
accepted once, whatever an earlier attempt sent; consumed ≤ received; an item without a value is missing.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from raybook.base.ids import FIRST_RETURN, index_of, return_id, stream_id
from raybook.base.specs import END_OF_STREAM, Endpoint, ErrorValue, Value
from raybook.core.owner.borrows import Borrows
from raybook.core.owner.garbage import Garbage
from raybook.core.owner.object_directory import ObjectDirectory
from raybook.core.owner.records import TakeItem, TaskRecord, ToPeer
from raybook.core.owner.reference_counter import ReferenceCounter
from raybook.protocol.messages.worker import StreamCredit, StreamItems

OPEN = "OPEN"
ENDED = "ENDED"
DROPPED = "DROPPED"

STOP = -1
"""The credit that says that nobody wants any more."""


class Stream:
    """One generator task's items. ``received`` of the task's order, which every attempt is sent, says where the attempt
    begins: behind what has come, or before the first item that is missing."""

    __slots__ = ("credited_attempt", "is_rebuilt", "missing", "order", "received", "record", "state", "stopped_attempt")

    def __init__(self, record: TaskRecord) -> None:
        self.record = record
        self.order: Any = record.spec.stream
        self.state = OPEN
        self.received = 0
        self.missing: dict[int, int] = {}
        """Items that were lost, in order → the first attempt that brings them again."""
        self.is_rebuilt = False
        """The stream itself is gone; items of it that somebody holds are made again."""
        self.stopped_attempt = -1
        """The attempt that was told to stop, so that the next one brings what is missing."""
        self.credited_attempt = 0
        """The attempt that knows how much has been taken: the first is pushed when nothing has."""

    def is_awaited(self, index: int) -> bool:
        """Whether this item is wanted just now."""
        return index in self.missing or (self.state == OPEN and index == self.received + 1)

    def came(self, index: int) -> None:
        """An item is there: the first time, or again."""
        self.missing.pop(index, None)
        self.received = max(self.received, index)
        self.begin_behind()

    def begin_behind(self) -> None:
        """Where the next attempt begins."""
        self.order.received = next(iter(self.missing)) - 1 if self.missing else self.received


class Generators:
    """One per owner machine. become_ready: gives an id its value. endpoint_of: where a task runs, None if nowhere."""

    def __init__(
        self,
        references: ReferenceCounter,
        objects: ObjectDirectory,
        borrows: Borrows,
        garbage: Garbage,
        effects: list[Any],
        become_ready: Callable[[bytes, Value, bool], None],
        endpoint_of: Callable[[TaskRecord], Endpoint | None],
    ) -> None:
        self.streams: dict[bytes, Stream] = {}
        self._references = references
        self._objects = objects
        self._borrows = borrows
        self._garbage = garbage
        self._effects = effects
        self._become_ready = become_ready
        self._endpoint_of = endpoint_of
        garbage.on_stream_released = self.dropped
        self.on_missing: Callable[[bytes], None] = lambda key: None
        """Told of an item that is missing when its task has ended, and that no attempt was to bring."""

    # Events

    def open(self, record: TaskRecord) -> None:
        """A generator task was submitted. Its user holds return 0 and, unless the items are collected, the stream."""
        task_id = record.spec.task_id
        stream = self.streams[task_id] = Stream(record)
        self._references.create(task_id + FIRST_RETURN)
        if not stream.order.collect:
            self._references.create(stream_id(task_id))

    def on_items(self, client_id: bytes, message: StreamItems) -> None:
        """Items arrived. Those that nobody wants, or that an earlier attempt brought, are freed."""
        task_id = message.task_id
        stream = self.streams.get(task_id)
        if stream is not None and (stream.record.spec.attempt != message.attempt or not self._is_running(stream)):
            stream = None
        has_refs = False
        for index, value in enumerate(message.values, message.index):
            has_refs = has_refs or bool(value.contained)
            if stream is not None and stream.is_awaited(index):
                self._keep(stream, index, value)
            else:
                self._garbage.discard(return_id(task_id, index), value, None)
        if has_refs:
            self._borrows.take_returns(client_id, return_id(task_id, message.index))
        if stream is None:
            return
        if stream.state == DROPPED or (stream.state == ENDED and not stream.missing and not stream.order.collect):
            self._tell(stream, STOP)
        elif stream.order.window > 0 and stream.credited_attempt != message.attempt:
            # What was taken between the push of this attempt and its first item.
            stream.credited_attempt = message.attempt
            self._tell(stream, stream.order.consumed)

    def hush(self, task_id: bytes) -> None:
        """Nobody wants news of a task that has ended, a generator or not: its error counts as looked at."""
        stream = self.streams.get(task_id)
        for index in (0, stream.received if stream is not None else 0):
            value = self._objects.values.get(return_id(task_id, index))
            if value is not None and value.error is not None:
                value.error.seen = True

    def _is_running(self, stream: Stream) -> bool:
        """Whether items of it may come."""
        return stream.state != ENDED or bool(stream.missing)

    def _keep(self, stream: Stream, index: int, value: Value) -> None:
        key = return_id(stream.record.spec.task_id, index)
        if index not in stream.missing:
            # Not `create`: what collects the items may hold this one already.
            self._references.hold_again(key)
        stream.came(index)
        value.origin = stream.record.call_site
        if value.contained:
            self._borrows.hold_contained(key, value.contained)
        self._become_ready(key, value, False)

    def taken(self, event: TakeItem) -> None:
        """An item was handed out."""
        stream = self.streams.get(event.task_id)
        if stream is None:
            return
        if event.index <= stream.order.consumed:
            # Two threads read one generator, and both got this one.
            self._references.hold_again(return_id(event.task_id, event.index))
            return
        stream.order.consumed = event.index
        if stream.state == OPEN and stream.order.window > 0:
            self._tell(stream, event.index)

    def ended(self, record: TaskRecord, error: ErrorValue | None) -> None:
        """The task is over, for good. Its error comes after the items that it made."""
        task_id = record.spec.task_id
        stream = self.streams.get(task_id)
        if stream is None:
            return  # It ran again, brought what was missing, and its generator was let go since.
        first = task_id + FIRST_RETURN
        if error is not None and not self._objects.is_ready(first):
            self._become_ready(first, Value(error=error), False)
        # Of the attempt that has ended: the record may be at its next one before all are looked at.
        left = [(index, attempt > record.spec.attempt) for index, attempt in stream.missing.items()]
        stream.missing.clear()
        stream.begin_behind()
        if stream.state == DROPPED or stream.is_rebuilt:
            del self.streams[task_id]
        elif stream.state == OPEN:
            self._close(stream, error)
        for index, is_untried in left:
            self._still_missing(record, index, is_untried, error)

    def _close(self, stream: Stream, error: ErrorValue | None) -> None:
        task_id = stream.record.spec.task_id
        if error is not None:
            self._keep(stream, stream.received + 1, Value(error=error))
        stream.state = ENDED
        key = return_id(task_id, stream.received + 1)
        self._references.create(key)
        self._become_ready(key, Value(error=ErrorValue(END_OF_STREAM, "The generator has no more items.")), False)
        if stream.order.collect:
            self.dropped(task_id)

    def _still_missing(self, record: TaskRecord, index: int, is_untried: bool, error: ErrorValue | None) -> None:
        """A lost item has not come again by the end of the task. is_untried: no attempt was to bring it."""
        key = return_id(record.spec.task_id, index)
        if not self._references.is_alive(key):
            return
        if error is None and is_untried:
            self.on_missing(key)
            return
        if error is None:
            text = (
                f"The object {key.hex()}, item {index} of the generator `{record.spec.name}`, was lost with its node. The "
                f"generator ran again and made fewer items than before. Write what must survive a node to storage, or let "
                f"the generator make the same items each time."
            )
            error = ErrorValue("ObjectReconstructionFailedError", text)
        self._become_ready(key, Value(error=error), False)

    # Items that were lost

    def located_items(self, record: TaskRecord) -> list[bytes]:
        """Those items of a task that has just ended which lie in some arena or on disk, or are missing. Cost: a look at
        each."""
        task_id = record.spec.task_id
        stream = self.streams.get(task_id)
        if stream is None:
            return []
        found = []
        for index in range(1, stream.received + 1):
            key = return_id(task_id, index)
            value = self._objects.values.get(key)
            if index in stream.missing or (value is not None and value.location is not None):
                found.append(key)
        return found

    def lost(self, record: TaskRecord, key: bytes) -> bool:
        """An item of a task that has not ended, or runs again, was lost: the attempt that runs now has made it before. False
        when there will be no other."""
        stream, attempt = self._stream_of(record), record.spec.attempt
        is_out = self._endpoint_of(record) is not None
        if is_out and not record.retries_left:
            return False
        self._miss(stream, index_of(key), attempt + is_out)
        if is_out and stream.state == OPEN and stream.order.window > 0 and stream.stopped_attempt != attempt:
            # It may wait for somebody to take items, who waits for one that is missing.
            stream.stopped_attempt = attempt
            self._tell(stream, STOP)
        return True

    def runs_again(self, record: TaskRecord) -> bool:
        """Whether an attempt that has ended well was only stopped for the next one."""
        stream = self.streams.get(record.spec.task_id)
        return stream is not None and stream.state == OPEN and stream.stopped_attempt == record.spec.attempt

    def again(self, record: TaskRecord, key: bytes) -> None:
        """A task that has ended is about to run again, for this item (or for its return 0)."""
        stream = self._stream_of(record)
        # Nobody takes what comes; it is missed by those who hold it already.
        stream.order.window = -1
        self._miss(stream, index_of(key), record.spec.attempt)

    def _stream_of(self, record: TaskRecord) -> Stream:
        stream = self.streams.get(record.spec.task_id)
        if stream is None:
            stream = self.streams[record.spec.task_id] = Stream(record)
            stream.state = ENDED
            stream.is_rebuilt = True
            stream.received = stream.order.received
        return stream

    def _miss(self, stream: Stream, index: int, attempt: int) -> None:
        if index and index not in stream.missing:
            is_last = not stream.missing or index > next(reversed(stream.missing))
            stream.missing[index] = attempt
            if not is_last:
                stream.missing = dict(sorted(stream.missing.items()))
        stream.begin_behind()

    def dropped(self, task_id: bytes) -> None:
        """Nobody will take any more: what was not taken is let go, and a running producer stops."""
        stream = self.streams.get(task_id)
        if stream is None:
            return
        order = stream.order
        end = stream.received + 1 if stream.state == ENDED else stream.received
        for index in range(order.consumed + 1, end + 1):
            self._references.drop(return_id(task_id, index))
        if stream.state == ENDED and not stream.missing:
            del self.streams[task_id]
        elif stream.state == ENDED:
            stream.is_rebuilt = True
        else:
            stream.state = DROPPED
            self._tell(stream, STOP)

    def _tell(self, stream: Stream, consumed: int) -> None:
        endpoint = self._endpoint_of(stream.record)
        if endpoint is not None:
            message = StreamCredit(stream.record.spec.task_id, consumed)
            self._effects.append(ToPeer(endpoint.client_id, endpoint.address, message))

    # What there is

    def has_window(self, task_id: bytes) -> bool:
        """User threads: whether a producer may wait for what is taken."""
        stream = self.streams.get(task_id)
        return stream is not None and stream.order.window > 0

    def statistics(self) -> dict[str, int]:
        streams = self.streams.values()
        return {
            "open": sum(stream.state == OPEN for stream in streams),
            "ended": sum(stream.state == ENDED for stream in streams),
            "dropped": sum(stream.state == DROPPED for stream in streams),
        }

    def check_invariants(self) -> None:
        for task_id, stream in self.streams.items():
            order = stream.order
            assert list(stream.missing) == sorted(stream.missing), "what is missing is not in order"
            assert order.received <= stream.received, "an attempt leaves out what has not come"
            if stream.state == DROPPED or stream.is_rebuilt:
                continue
            assert order.consumed <= stream.received, "more items were taken than have come"
            for index in range(order.consumed + 1, stream.received + 1):
                key = return_id(task_id, index)
                assert self._references.is_held(key), "an item that nobody took is not counted"
                assert self._objects.is_ready(key) or index in stream.missing, "an item of a stream has no value"
