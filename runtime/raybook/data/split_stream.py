"""A stream split among consumers: one execution in an actor, each consumer (a Train worker) takes its shard as it comes.

A consumer begins a pass and waits there until all have begun it: then one execution feeds all of them. With `equal`,
each block is cut into as many slices as there are consumers, what is left over waits for the next block, and a last
remainder is dropped: so all get exactly the same number of rows. Without, whoever asks first gets the next block.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from raybook.api import get, remote
from raybook.data.block import Bundle
from raybook.data.context import DataContext
from raybook.data.core.equal_split import EqualSplitter
from raybook.data.dataset_base import DatasetBase
from raybook.data.execution.run import executor_for
from raybook.data.execution.streaming import StreamingThread
from raybook.data.iterator import DataIterator
from raybook.data.schema import Schema
from raybook.data.stored import bundle_of

if TYPE_CHECKING:
    from raybook.data.dataset import MaterializedDataset

Piece = tuple[Bundle, int, int]
"""A block, and the rows of it: offset and length."""


class SplitCoordinator:
    """The actor. Its methods block in threads of their own, one for each consumer."""

    def __init__(self, dataset: DatasetBase, count: int, is_equal: bool) -> None:
        self._dataset, self._count, self._is_equal = dataset, count, is_equal
        self._lock = threading.Condition()
        self._epoch = -1
        self._arrived: set[int] = set()
        self._thread: StreamingThread | None = None
        self._pulling = threading.Lock()
        self._queues: list[deque[Piece]] = [deque() for _ in range(count)]
        self._splitter = EqualSplitter(count)
        self._is_ended = False
        self._error: BaseException | None = None

    def start_pass(self, index: int) -> int:
        """Wait until all consumers have come here; the number of the pass."""
        with self._lock:
            self._arrived.add(index)
            if len(self._arrived) == self._count:
                self._begin()
                self._lock.notify_all()
                return self._epoch
            wanted = self._epoch + 1
            while self._epoch < wanted:
                self._lock.wait()
            return wanted

    def _begin(self) -> None:
        if self._thread is not None:
            self._thread.stop()
        self._arrived.clear()
        self._epoch += 1
        self._queues = [deque() for _ in range(self._count)]
        self._splitter = EqualSplitter(self._count)
        self._is_ended, self._error = False, None
        self._thread = StreamingThread(executor_for(self._dataset._plan, self._dataset._context))
        self._thread.start()

    def next_piece(self, epoch: int, index: int) -> Piece | None:
        """The next rows of a consumer; None at the end of the pass."""
        while True:
            with self._lock:
                if epoch != self._epoch:
                    raise ValueError(
                        f"Pass {epoch} of this stream is over: all consumers have begun pass {self._epoch}. Start another "
                        "iteration instead of going on with this one."
                    )
                if self._queues[index]:
                    return self._queues[index].popleft()
                if self._error is not None:
                    raise self._error
                if self._is_ended:
                    return None
                thread = self._thread
            with self._pulling:
                with self._lock:
                    if self._queues[index] or self._is_ended or epoch != self._epoch:
                        continue
                self._pull(thread, index)

    def _pull(self, thread: StreamingThread | None, index: int) -> None:
        assert thread is not None
        try:
            bundle = thread.take()
        except BaseException as error:  # noqa: BLE001 - every consumer raises it.
            with self._lock:
                self._error, self._is_ended = error, True
            return
        with self._lock:
            if bundle is None:
                self._is_ended = True
            elif not self._is_equal:
                if bundle.num_rows:
                    self._queues[index].append((bundle, 0, bundle.num_rows))
            else:
                for target, pieces in enumerate(self._splitter.add(bundle, bundle.num_rows)):
                    self._queues[target].extend(pieces)

    def schema(self) -> Schema | None:
        """Of the rows."""
        return self._dataset._fetch_schema()

    def stats(self) -> str:
        """Of the pass that runs."""
        if self._thread is not None:
            self._dataset._executor = self._thread.executor
        return self._dataset.stats()  # type: ignore[attr-defined]


class SplitIterator(DataIterator):
    """One consumer's end."""

    def __init__(self, coordinator: Any, index: int, count: int, empty: MaterializedDataset) -> None:
        self._coordinator, self._index, self._count, self._empty = coordinator, index, count, empty

    def __repr__(self) -> str:
        return f"StreamSplitDataIterator(shard {self._index} of {self._count})"

    def world_size(self) -> int:
        """Number of consumers."""
        return self._count

    def _tables(self) -> Iterator[pa.Table]:
        epoch = get(self._coordinator.start_pass.remote(self._index))
        ahead = self._coordinator.next_piece.remote(epoch, self._index)
        while True:
            piece = get(ahead)
            if piece is None:
                return
            # The next one is asked for while the consumer works on this.
            ahead = self._coordinator.next_piece.remote(epoch, self._index)
            bundle, offset, length = piece
            yield get(bundle.ref).slice(offset, length)

    def stats(self) -> str:
        return get(self._coordinator.stats.remote())

    def schema(self) -> Schema | None:
        return get(self._coordinator.schema.remote())

    def get_context(self) -> DataContext:
        return self._empty.context

    def materialize(self) -> MaterializedDataset:
        return self._empty._materialized([bundle_of(table) for table in self._tables()])


def split_stream(dataset: DatasetBase, count: int, is_equal: bool) -> list[DataIterator]:
    """The consumers' ends of a new coordinator."""
    options = {"num_cpus": 0, "max_concurrency": 2 * count + 2}
    coordinator = remote(SplitCoordinator).options(**options).remote(dataset, count, is_equal)
    empty = dataset._materialized([])
    return [SplitIterator(coordinator, index, count, empty) for index in range(count)]
