"""Regions of a process: a place whose asker was interrupted serves the next one."""

from __future__ import annotations

from typing import Any

from raybook.core.owner.regions import Regions, Ticket
from raybook.protocol.messages.store import ExtentGranted, RequestExtent


class Lock:
    def __init__(self) -> None:
        self.is_open = False

    def release(self) -> None:
        self.is_open = True


def regions_with_extent() -> tuple[Regions, list[Any]]:
    sent: list[Any] = []
    regions = Regions(sent.append, lambda ranges: False)
    regions.allocate(Ticket(100, Lock()))
    regions.granted(ExtentGranted(1, 0, 4096))
    return regions, sent


def test_a_place_that_was_given_up_after_it_was_found_is_free() -> None:
    regions, _ = regions_with_extent()
    given_up, following = Ticket(1000, Lock()), Ticket(1000, Lock())

    regions.allocate(given_up)
    regions.abandon(given_up)
    regions.allocate(following)

    assert following.offset == given_up.offset


def test_a_place_that_was_given_up_while_it_was_asked_for_is_not_taken() -> None:
    regions, sent = regions_with_extent()
    given_up = Ticket(100_000, Lock())

    regions.allocate(given_up)
    regions.abandon(given_up)
    regions.granted(ExtentGranted(2, 1 << 20, 1 << 20))

    assert sent == [RequestExtent(1, 100), RequestExtent(2, 100_000)]
    assert regions.allocator.statistics().region_count == 1
