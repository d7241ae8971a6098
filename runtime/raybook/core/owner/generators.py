"""Generators: the streams of items that generator tasks send while they run.

    state \\ event    items of this attempt   an item is taken    the task ends         the generator is dropped
    OPEN             kept, in order          credit             → ENDED, end mark     → DROPPED, producer told to stop
    ENDED            –                       –                   –                     → gone
    DROPPED          freed, told to stop     –                  → gone                  –

Item n is the task's return number n, from 1 on; a stream counts each of its items once until somebody takes it, and
then the taker's reference has that count. After the last item stands an end mark, a value like any other: so ``wait``
and ``get`` wait for "an item, or the end" by waiting for the next id. An error is one more item. Return 0 is ready when
the task has ended.

Knows nothing of workers, retries or user threads. Invariants: what has been received is 1..n without a gap; an item is
accepted once, whatever an earlier attempt sent; consumed ≤ received.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from raybook.base.ids import FIRST_RETURN, return_id, stream_id
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
    """One generator task's items. Its counters are those of the task's order, which every attempt is sent."""

    __slots__ = ("credited_attempt", "order", "record", "state")

    def __init__(self, record: TaskRecord) -> None:
        self.record = record
        self.order: Any = record.spec.stream
        self.state = OPEN
        self.credited_attempt = 0
        """The attempt that knows how much has been taken: the first is pushed when nothing has."""


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
        is_late = stream is None or stream.state == ENDED or stream.record.spec.attempt != message.attempt
        has_refs = False
        for index, value in enumerate(message.values, message.index):
            has_refs = has_refs or bool(value.contained)
            if stream is not None and not is_late and stream.state == OPEN and index == stream.order.received + 1:
                self._keep(stream, index, value)
            else:
                self._garbage.discard(return_id(task_id, index), value, None)
        if has_refs:
            self._borrows.take_returns(client_id, return_id(task_id, message.index))
        if stream is None or is_late:
            return
        if stream.state == DROPPED:
            self._tell(stream, STOP)
        elif stream.order.window > 0 and stream.credited_attempt != message.attempt:
            # What was taken between the push of this attempt and its first item.
            stream.credited_attempt = message.attempt
            self._tell(stream, stream.order.consumed)

    def _keep(self, stream: Stream, index: int, value: Value) -> None:
        key = return_id(stream.record.spec.task_id, index)
        stream.order.received = index
        # Not `create`: what collects the items may hold this one already.
        self._references.hold_again(key)
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
        stream = self.streams[task_id]
        first = task_id + FIRST_RETURN
        if error is not None and not self._objects.is_ready(first):
            self._become_ready(first, Value(error=error), False)
        if stream.state == DROPPED:
            del self.streams[task_id]
            return
        if error is not None:
            self._keep(stream, stream.order.received + 1, Value(error=error))
        stream.state = ENDED
        key = return_id(task_id, stream.order.received + 1)
        self._references.create(key)
        self._become_ready(key, Value(error=ErrorValue(END_OF_STREAM, "The generator has no more items.")), False)
        if stream.order.collect:
            self.dropped(task_id)

    def dropped(self, task_id: bytes) -> None:
        """Nobody will take any more: what was not taken is let go, and a running producer stops."""
        stream = self.streams.get(task_id)
        if stream is None:
            return
        order = stream.order
        end = order.received + 1 if stream.state == ENDED else order.received
        for index in range(order.consumed + 1, end + 1):
            self._references.drop(return_id(task_id, index))
        if stream.state == ENDED:
            del self.streams[task_id]
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
            assert order.consumed <= order.received, "more items were taken than have come"
            if stream.state == DROPPED:
                continue
            for index in range(order.consumed + 1, order.received + 1):
                key = return_id(task_id, index)
                assert self._references.is_held(key), "an item that nobody took is not counted"
                assert self._objects.is_ready(key), "an item of a stream has no value"
