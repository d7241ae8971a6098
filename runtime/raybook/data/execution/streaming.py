"""Streaming: an execution that goes on in a thread while its consumer works on what it has.

The thread runs the executor's steps; the consumer takes bundles from a queue. Bytes that the consumer has not taken count
as the last operator's, so a slow consumer holds the whole plan back. The consumer waits in C on a queue that signals
wake, never on a condition variable.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from queue import SimpleQueue

from raybook.data.block import Bundle
from raybook.data.execution.executor import Executor

IDLE_S = 1.0
"""How long the thread sleeps at most while it waits for the consumer: a wake-up that gets lost costs no more."""


class _End:
    """The plan is over; error: with which."""

    def __init__(self, error: BaseException | None) -> None:
        self.error = error


class StreamingThread:
    """Runs an executor until it ends or `stop` is called."""

    def __init__(self, executor: Executor) -> None:
        self.executor = executor
        self._queue: SimpleQueue[Bundle | _End] = SimpleQueue()
        self._wake = threading.Lock()
        self._wake.acquire()
        self._taken_bytes = 0
        self._put_bytes = 0
        self._is_stopped = False
        self._thread = threading.Thread(target=self._run, daemon=True, name="raybook-data")

    def start(self) -> None:
        self._thread.start()

    def _run(self) -> None:
        executor, error = self.executor, None
        try:
            while not self._is_stopped and not (executor.is_done and not executor.outputs):
                executor.step()
                while executor.outputs:
                    bundle = executor.outputs.popleft()
                    self._put_bytes += bundle.size_bytes
                    self._queue.put(bundle)
                executor.consumer_bytes = max(0, self._put_bytes - self._taken_bytes)
                if executor.waits_for_consumer and executor.consumer_bytes and not self._is_stopped:
                    self._wake.acquire(timeout=IDLE_S)
        except BaseException as caught:  # noqa: BLE001 - the consumer raises it.
            error = caught
        finally:
            try:
                executor.close()
            except Exception as caught:  # noqa: BLE001 - a cluster that is gone; the first error says more.
                error = error or caught
            self._queue.put(_End(error))

    def bundles(self) -> Iterator[Bundle]:
        """The bundles in order; raises what ended the plan. Stops the execution when it is dropped."""
        try:
            while True:
                item = self.take()
                if item is None:
                    return
                yield item
        finally:
            self.stop()

    def take(self) -> Bundle | None:
        """The next bundle; None at the end."""
        item = self._queue.get()
        if isinstance(item, _End):
            self._queue.put(item)
            if item.error is not None:
                raise item.error
            return None
        self._taken_bytes += item.size_bytes
        self._awaken()
        return item

    def _awaken(self) -> None:
        try:
            self._wake.release()
        except RuntimeError:
            pass  # It is awake.

    def stop(self) -> None:
        """End the execution; returns at once."""
        self._is_stopped = True
        self._awaken()
