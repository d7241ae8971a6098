"""How a running task is made to stop: whatever the moment at which the word comes, it is heeded, and by nobody else."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator

import pytest

from raybook.protocol.messages.worker import TaskSpec
from raybook.worker.interruption import CANCEL_SIGNAL, Interruption


class Worker:
    """A main thread with a current task."""

    def __init__(self) -> None:
        self.current: TaskSpec | None = None
        self.interruption = Interruption(lambda: self.current)

    def begin(self, task_id: bytes) -> None:
        self.current = TaskSpec(task_id, b"key", "task", b"")


@pytest.fixture
def worker() -> Iterator[Worker]:
    before = signal.getsignal(CANCEL_SIGNAL)
    yield Worker()
    signal.signal(CANCEL_SIGNAL, before)


def test_a_task_that_was_taken_but_has_not_begun_ends_when_it_begins(worker):
    worker.interruption.ask(b"one")
    worker.begin(b"one")
    with pytest.raises(KeyboardInterrupt):
        worker.interruption.heed()
    worker.interruption.heed()


def test_the_task_that_follows_the_cancelled_one_is_left_alone(worker):
    worker.begin(b"one")
    worker.interruption.ask(b"one")
    worker.interruption.over(b"one")
    worker.begin(b"two")
    worker.interruption.is_open = True
    worker.interruption.heed()
    worker.interruption.ask_again()


def test_no_code_but_the_tasks_own_is_interrupted(worker):
    worker.begin(b"one")
    worker.interruption.ask(b"one")
    assert worker.interruption.wanted == {b"one"}


def test_a_signal_that_came_to_nothing_is_sent_again(worker):
    worker.begin(b"one")
    worker.interruption.wanted.add(b"one")
    worker.interruption.is_open = True
    again = threading.Timer(0.02, worker.interruption.ask_again)
    again.start()
    begin = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        time.sleep(20)
    again.join()
    assert time.monotonic() - begin < 10


def test_pauses_between_two_signals_grow(worker):
    worker.begin(b"one")
    worker.interruption.ask(b"one")
    before = worker.interruption._next_ns
    worker.interruption.ask_again()
    assert worker.interruption._next_ns == before
