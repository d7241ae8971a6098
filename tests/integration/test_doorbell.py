"""Doorbell: who is woken by what is handed to the I/O loop, and what is left to lie."""

from __future__ import annotations

import os

import pytest

from raybook.worker.baton import Baton
from raybook.worker.doorbell import Doorbell


@pytest.fixture
def bell() -> Doorbell:
    return Doorbell(Baton())


def has_rung(bell: Doorbell) -> bool:
    try:
        os.eventfd_read(bell.fd)
    except BlockingIOError:
        return False
    return True


@pytest.mark.parametrize("way", ["submit", "submit_soon", "leave"])
def test_a_sleeper_is_woken_once_by_what_is_handed_over(bell: Doorbell, way: str):
    bell.is_asleep = True
    getattr(bell, way)("one")
    assert has_rung(bell)
    getattr(bell, way)("two")
    assert not has_rung(bell)
    assert list(bell.queue) == ["one", "two"]


def test_while_the_baton_lies_the_first_event_waits_for_its_thread_and_the_second_calls_the_io_thread():
    baton = Baton()
    bell = Doorbell(baton)
    bell.submit_soon("one")
    assert not baton.is_needed
    bell.submit_soon("two")
    assert baton.is_needed


def test_what_may_wait_calls_nobody_while_the_baton_lies():
    baton = Baton()
    bell = Doorbell(baton)
    for event in range(100):
        bell.leave(event)
    assert not baton.is_needed
    bell.submit("now")
    assert baton.is_needed


def test_whoever_turns_the_loop_without_sleeping_need_not_be_told(bell: Doorbell):
    baton = bell._baton
    assert baton.lead(1)
    for way in (bell.submit, bell.submit_soon, bell.leave):
        way("event")
    assert not has_rung(bell)
    assert not baton.is_needed
    baton.rest(True)
