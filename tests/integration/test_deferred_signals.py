"""Deferred signals: noted while deferred, delivered afterwards, and handed back whatever their handlers raise."""

from __future__ import annotations

import signal
from collections.abc import Iterator

import pytest

from raybook.worker.deferred_signals import DeferredSignals


class Alarm(Exception):
    """What a handler of these tests raises."""


@pytest.fixture
def calls() -> Iterator[list[int]]:
    """Handlers for two signals that note the call here, and raise."""
    seen: list[int] = []

    def handle(number: int, frame: object) -> None:
        seen.append(number)
        raise Alarm(number)

    previous = [(number, signal.signal(number, handle)) for number in (signal.SIGHUP, signal.SIGUSR1)]
    yield seen
    for number, handler in previous:
        signal.signal(number, handler)


def test_a_deferred_signal_wakes_the_sleeper_and_is_delivered_at_the_end(calls: list[int]):
    woken: list[bool] = []
    deferred = DeferredSignals(lambda: woken.append(True))
    deferred.begin()
    signal.raise_signal(signal.SIGUSR1)
    assert (calls, woken, deferred.noted) == ([], [True], [signal.SIGUSR1])
    with pytest.raises(Alarm):
        deferred.end()
    assert calls == [signal.SIGUSR1]
    assert deferred.noted == []


def test_all_deferred_signals_are_delivered_though_each_raises(calls: list[int]):
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGHUP, signal.SIGUSR1)]
    deferred = DeferredSignals(lambda: None)
    deferred.begin()
    signal.raise_signal(signal.SIGUSR1)
    signal.raise_signal(signal.SIGHUP)
    with pytest.raises(Alarm):
        deferred.end()
    assert calls == [signal.SIGUSR1, signal.SIGHUP]
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGHUP, signal.SIGUSR1)] == before


def test_signals_without_a_python_handler_are_left_alone():
    signal.signal(signal.SIGUSR1, signal.SIG_DFL)
    deferred = DeferredSignals(lambda: None)
    deferred.begin()
    assert signal.getsignal(signal.SIGUSR1) is signal.SIG_DFL
    deferred.end()


def test_a_deferrable_handler_stays_and_is_called_when_nothing_is_deferred(calls: list[int]):
    deferred = DeferredSignals(lambda: None)
    mine = deferred.deferrable(signal.getsignal(signal.SIGUSR1))
    signal.signal(signal.SIGUSR1, mine)
    deferred.begin()
    assert signal.getsignal(signal.SIGUSR1) is mine
    deferred.end()
    with pytest.raises(Alarm):
        signal.raise_signal(signal.SIGUSR1)
    assert calls == [signal.SIGUSR1]


def test_a_deferrable_handler_is_deferred_beside_others_and_in_their_order(calls: list[int]):
    deferred = DeferredSignals(lambda: None)
    signal.signal(signal.SIGUSR1, deferred.deferrable(signal.getsignal(signal.SIGUSR1)))
    deferred.begin()
    signal.raise_signal(signal.SIGUSR1)
    signal.raise_signal(signal.SIGHUP)
    assert calls == []
    with pytest.raises(Alarm):
        deferred.end()
    assert calls == [signal.SIGUSR1, signal.SIGHUP]


def test_a_handler_that_another_loop_defers_is_deferred_by_this_one_too(calls: list[int]):
    first, second = DeferredSignals(lambda: None), DeferredSignals(lambda: None)
    signal.signal(signal.SIGUSR1, first.deferrable(signal.getsignal(signal.SIGUSR1)))
    second.begin()
    signal.raise_signal(signal.SIGUSR1)
    assert (calls, second.noted) == ([], [signal.SIGUSR1])
    with pytest.raises(Alarm):
        second.end()
