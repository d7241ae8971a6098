"""Item streams: the items of generators that run in this worker, on their way to their owner.

A first item, and any that follows a rest, is sent at once by the thread that made it. Items that come faster than that
are gathered, and the I/O thread sends them as soon as it gets its turn: it was woken for the first of them, so nothing
is held back by what comes later. A producer with a window waits until enough of its items have been taken.

Knows nothing of how user code runs or what is done about its errors. Invariant: items leave in order, each once, all
before the task's reply.
"""

from __future__ import annotations

import _thread
import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import suppress
from functools import partial
from typing import Any

from raybook.base.errors import TaskCancelledError
from raybook.base.specs import Value
from raybook.core.owner.records import SealItems
from raybook.io.transport import ConnectionClosed
from raybook.protocol.messages.worker import StreamCredit, StreamItems, TaskSpec
from raybook.worker.core_process import CoreProcess
from raybook.worker.fixed_items import END
from raybook.worker.outcome import Outcome
from raybook.worker.peers import Peer

logger = logging.getLogger(__name__)

GATHER_NS = 500_000
"""Items that follow each other faster than this are gathered: as long as replies of short tasks are (reply_channel)."""
BATCH_MAX = 128
"""As many items make a message at most."""


class ItemStream:
    """One running generator. ``made`` counts its items, those that the owner has from an earlier attempt too."""

    __slots__ = (
        "_core", "_first", "_gate", "_gathered", "_is_flush_due", "_is_sealing", "_is_waiting", "_lock", "_on_wake",
        "_outcome", "_resume", "_sent_ns", "_window", "consumed", "is_cancelled", "is_stopped", "made", "peer", "spec",
    )  # fmt: skip

    def __init__(self, core: CoreProcess, outcome: Outcome, peer: Peer, spec: TaskSpec) -> None:
        order = spec.stream
        assert order is not None, "a generator without an order of its stream"
        self._core = core
        self._outcome = outcome
        self.peer = peer
        self.spec = spec
        self.made = 0
        self.consumed = order.consumed
        self._resume = order.received
        self._window = order.window
        self.is_stopped = False
        """Nobody wants any more items."""
        self.is_cancelled = False
        self._lock = _thread.allocate_lock()
        self._gathered: list[Value] = []
        self._first = 0
        self._sent_ns = 0
        self._is_flush_due = False
        self._is_sealing = False
        self._is_waiting = False
        self._gate = _thread.allocate_lock()
        self._gate.acquire()
        self._on_wake: Callable[[], Any] | None = None

    # The producer's thread

    def offer(self, item: Any) -> None:
        """Send one more item. TypeError for what cannot be pickled; ObjectStoreFullError; TaskCancelledError."""
        self.made += 1
        if self.made > self._resume:
            value = self._outcome.pack_item(self.spec, self.made, item)
            if value.inline is None or value.contained or self._is_sealing:
                self._seal(value)
            else:
                self._add(value)
        self.check_cancelled()

    def _seal(self, value: Value) -> None:
        """References inside: the owner machine sees to it that they are known to be held. A place in the arena: the raylet
        is told before the owner. All that follows takes the same way, so that nothing overtakes."""
        self.flush()
        self._is_sealing = True
        items = StreamItems(self.spec.task_id, self.spec.attempt, self.made, [value])
        self._core.submit(SealItems(self.peer.client_id, items))

    def _add(self, value: Value) -> None:
        with self._lock:
            if not self._gathered:
                self._first = self.made
            self._gathered.append(value)
            if time.monotonic_ns() - self._sent_ns > GATHER_NS or len(self._gathered) >= BATCH_MAX:
                self._send()
                return
            wakes = not self._is_flush_due
            self._is_flush_due = True
        if wakes:
            self._core.submit(self.flush)

    def check_cancelled(self) -> None:
        """TaskCancelledError when the task was cancelled."""
        if self.is_cancelled:
            raise TaskCancelledError(f"Task: TaskID({self.spec.task_id.hex()}) was cancelled.")

    def is_full(self) -> bool:
        """Whether the window is full: the producer has to wait."""
        return (
            self._window > 0
            and self.made > self._resume
            and self.made - self.consumed >= self._window
            and not (self.is_stopped or self.is_cancelled)
        )

    def wait_for_room(self) -> None:
        """Block until items have been taken, or nothing more is wanted."""
        self.flush()
        while self.is_full():
            self._is_waiting = True
            if not self.is_full():
                break
            self._gate.acquire()
        self._is_waiting = False
        self.check_cancelled()

    async def wait_for_room_async(self) -> None:
        """The same on an event loop."""
        self.flush()
        loop = asyncio.get_running_loop()
        woken = asyncio.Event()
        self._on_wake = partial(loop.call_soon_threadsafe, woken.set)
        while self.is_full():
            woken.clear()
            if self.is_full():
                await woken.wait()
        self.check_cancelled()

    # Any thread

    def flush(self) -> None:
        """Send what is gathered."""
        with self._lock:
            self._is_flush_due = False
            self._send()

    def _send(self) -> None:
        """With the lock held."""
        if not self._gathered:
            return
        values, self._gathered = self._gathered, []
        self._sent_ns = time.monotonic_ns()
        try:
            if not self.peer.send_now(StreamItems(self.spec.task_id, self.spec.attempt, self._first, values)):
                self._core.finish_write(self.peer)
        except ConnectionClosed:
            logger.info("The owner of a stream is gone; %d items for it were dropped.", len(values))
            self.is_stopped = True

    def wake(self) -> None:
        """Something changed that a waiting producer waits for."""
        with suppress(RuntimeError):  # It went on by itself, or its loop has ended.
            if self._on_wake is not None:
                self._on_wake()
            elif self._is_waiting:
                self._is_waiting = False
                self._gate.release()


class ItemStreams:
    """All generators that run in this process."""

    def __init__(self, core: CoreProcess, outcome: Outcome) -> None:
        self._core = core
        self._outcome = outcome
        self._open: dict[bytes, ItemStream] = {}

    # The threads that run tasks

    def drain(self, peer: Peer, spec: TaskSpec, produced: Any, step: Callable[[Iterator[Any]], Any]) -> int:
        """Send all items of a generator; how many it made. step: runs user code up to the next item, or END. Raises
        what the generator does. In the end ``spec.stream.received`` tells how many the owner has."""
        stream = self._begin(peer, spec)
        try:
            iterator = _iterator_of(spec, produced, "__next__")
            while not stream.is_stopped and (item := step(iterator)) is not END:
                stream.offer(item)
                del item  # It may be large, and the next one is made now.
                if stream.is_full():
                    stream.wait_for_room()
        finally:
            self._end(stream, spec)
            _close(produced)
        return stream.made

    async def drain_async(self, peer: Peer, spec: TaskSpec, produced: Any) -> int:
        """The same on an event loop, of an async generator or a plain one."""
        if not hasattr(produced, "__anext__"):
            produced = _with_turns(_iterator_of(spec, produced, "__next__"))
        stream = self._begin(peer, spec)
        try:
            while not stream.is_stopped and (item := await anext(produced, END)) is not END:
                stream.offer(item)
                del item
                if stream.is_full():
                    await stream.wait_for_room_async()
        finally:
            self._end(stream, spec)
            close = getattr(produced, "aclose", None)
            if close is not None:
                await close()
        return stream.made

    def _begin(self, peer: Peer, spec: TaskSpec) -> ItemStream:
        stream = self._open[spec.task_id] = ItemStream(self._core, self._outcome, peer, spec)
        return stream

    def _end(self, stream: ItemStream, spec: TaskSpec) -> None:
        stream.flush()
        self._open.pop(spec.task_id, None)
        if spec.stream is not None:
            spec.stream.received = max(stream.made, spec.stream.received)

    # The I/O thread

    def on_credit(self, message: StreamCredit) -> None:
        """The owner says how much has been taken, or that nothing more is wanted. Of a stream that has not begun, it
        will say it again."""
        stream = self._open.get(message.task_id)
        if stream is None:
            return
        if message.consumed < 0:
            stream.is_stopped = True
        else:
            stream.consumed = max(stream.consumed, message.consumed)
        stream.wake()

    def cancel(self, task_id: bytes) -> None:
        """A task was cancelled: if it is a generator that runs here, it ends at its next item at the latest."""
        stream = self._open.get(task_id)
        if stream is not None:
            stream.is_cancelled = True
            stream.wake()

    def on_peer_gone(self, client_id: bytes) -> None:
        """An owner is gone: its generators stop."""
        for stream in list(self._open.values()):
            if stream.peer.client_id == client_id:
                stream.is_stopped = True
                stream.wake()


def _iterator_of(spec: TaskSpec, produced: Any, step: str) -> Any:
    if hasattr(produced, step):
        return produced
    raise TypeError(
        f"`{spec.name}` is called as a generator (num_returns='streaming' or 'dynamic') and returned "
        f"{type(produced).__name__}. Write it with `yield`, or leave num_returns out."
    )


def _close(produced: Any) -> None:
    close = getattr(produced, "close", None)
    if close is not None:
        close()


async def _with_turns(iterator: Iterator[Any]) -> AsyncIterator[Any]:
    """A plain generator in an async actor: other calls get their turn between its items."""
    try:
        for item in iterator:
            yield item
            await asyncio.sleep(0)
    finally:
        _close(iterator)
