"""Copies of other nodes' objects: what a process gives back when room is short."""

from __future__ import annotations

from collections import deque
from types import SimpleNamespace
from typing import Any

import pytest

from raybook.base.specs import Location
from raybook.core.owner.object_directory import ObjectDirectory
from raybook.core.owner.pins import Pins
from raybook.core.owner.records import Unpin
from raybook.core.worker.copies import Copies, CopyTicket
from raybook.protocol.messages.raylet import CopiesRecalled, DropCopies, ObjectFetched, RecallCopies

NODE = b"n" * 8
KEY = b"k" * 16
OFFSET = 4_096


class Process:
    """A process with one copy. queue: what its I/O thread has still to look at, in order."""

    def __init__(self) -> None:
        self.queue: deque[Any] = deque()
        self.sent: list[Any] = []
        references: Any = SimpleNamespace(is_held=lambda key: True, drop=lambda key: None)
        self.objects = ObjectDirectory()
        self.pins = Pins(references, SimpleNamespace(hold=lambda ref: None))  # type: ignore[arg-type]
        self.copies = Copies(self.sent.append, self.queue.append, self.objects, references, self.pins, NODE)
        self.copies.ask(CopyTicket(KEY, Location(b"far", 0, 100)))
        self.copies.answered(ObjectFetched(1, OFFSET))
        self.sent.clear()

    def turn(self) -> None:
        while self.queue:
            item = self.queue.popleft()
            self.pins.on_unpin(item) if isinstance(item, Unpin) else item()


@pytest.fixture
def process() -> Process:
    return Process()


def test_a_copy_that_nothing_looks_at_is_given_back(process: Process):
    process.copies.recalled(
        RecallCopies(
            7,
        )
    )
    process.turn()
    assert process.sent == [DropCopies([KEY]), CopiesRecalled(7)]


def test_a_copy_that_a_view_looks_at_stays(process: Process):
    process.pins.add(OFFSET)
    process.copies.recalled(RecallCopies(7))
    process.turn()
    assert process.sent == [CopiesRecalled(7)]
    assert KEY in process.objects.copies


def test_a_view_that_went_just_before_the_recall_holds_nothing_back(process: Process):
    """Its end waits in the queue when the raylet asks."""
    process.pins.add(OFFSET)
    process.queue.append(Unpin(KEY, OFFSET, is_due=True))
    process.copies.recalled(RecallCopies(7))
    process.turn()
    assert process.sent == [DropCopies([KEY]), CopiesRecalled(7)]


def test_a_view_that_comes_while_a_copy_is_on_its_way_out_keeps_it(process: Process):
    process.copies.recalled(RecallCopies(7))
    process.queue.popleft()()
    process.pins.add(OFFSET)
    process.turn()
    assert process.sent == [CopiesRecalled(7)]
    assert process.objects.copies[KEY].offset == OFFSET
