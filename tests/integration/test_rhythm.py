"""How long the I/O loop sleeps: short while things move, seconds where nothing can happen by itself."""

from __future__ import annotations

import pytest

from raybook.worker.executor_base import Executor
from raybook.worker.rhythm import (
    BUSY_WAIT_MS,
    EXECUTOR_WAIT_MS,
    IDLE_WAIT_MS,
    REST_WAIT_MS,
    TURNS_BEFORE_REST,
    Rhythm,
)


class Idle(Executor):
    def is_at_rest(self) -> bool:
        return True


class Working(Executor):
    def is_busy(self) -> bool:
        return True


def sleep(rhythm: Rhythm, executor: Executor | None, is_busy: bool = False, others_ms: int = 60_000) -> int:
    rhythm.rest(1_000, is_busy, others_ms, executor)
    return rhythm.due_ms - 1_000


def test_a_driver_looks_twice_a_second_however_long_it_is_idle():
    rhythm = Rhythm()
    assert [sleep(rhythm, None) for _ in range(9)] == [IDLE_WAIT_MS] * 9


def test_a_worker_at_rest_sleeps_for_seconds_after_some_looks_and_anew_after_a_message():
    rhythm = Rhythm()
    for _ in range(2):
        assert [sleep(rhythm, Idle()) for _ in range(TURNS_BEFORE_REST)] == [IDLE_WAIT_MS] * TURNS_BEFORE_REST
        assert sleep(rhythm, Idle()) == REST_WAIT_MS
        rhythm.heard(2_000)
        assert rhythm.due_ms == 2_000 + EXECUTOR_WAIT_MS


def test_a_loop_of_calls_brings_the_timer_forward_once_and_not_at_every_call():
    rhythm = Rhythm()
    sleep(rhythm, Idle())
    for now_ms in (1_001, 1_002, 1_003):
        rhythm.heard(now_ms)
    assert rhythm.due_ms == 1_001 + EXECUTOR_WAIT_MS


@pytest.mark.parametrize("executor", [Working(), Executor()])
def test_a_worker_whose_code_may_run_never_sleeps_for_seconds(executor):
    rhythm = Rhythm()
    longest = max(sleep(rhythm, executor) for _ in range(9))
    assert longest == (EXECUTOR_WAIT_MS if executor.is_busy() else IDLE_WAIT_MS)


def test_activity_and_deadlines_shorten_the_sleep():
    rhythm = Rhythm()
    assert sleep(rhythm, Idle(), is_busy=True) == BUSY_WAIT_MS
    assert sleep(rhythm, Idle(), others_ms=7) == 7
    assert sleep(rhythm, Idle(), others_ms=-3) == 1
