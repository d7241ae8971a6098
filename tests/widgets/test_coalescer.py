"""When panels tick: never more often than asked, never without a change, always once after the last one."""

from __future__ import annotations

import pytest

from raybook_widgets import read_preferences
from raybook_widgets.coalescer import Coalescer


def run(changes_ms: list[int], period_ms: float, until_ms: int) -> list[int]:
    """The times of the ticks, on a clock of whole milliseconds."""
    coalescer = Coalescer(period_ms)
    ticks = []
    for now_ms in range(until_ms):
        if now_ms in changes_ms:
            coalescer.note_change()
        if coalescer.until_tick_ms(now_ms) == 0:
            coalescer.begin_tick(now_ms)
            ticks.append(now_ms)
    return ticks


def test_first_change_is_shown_at_once():
    assert run([10], 250, 2_000) == [10]


def test_many_changes_become_four_ticks_a_second():
    ticks = run(list(range(0, 1_000, 3)), 250, 3_000)
    assert all(later - earlier >= 250 for earlier, later in zip(ticks, ticks[1:], strict=False))
    assert len(ticks) <= 6


def test_last_change_always_gets_its_tick():
    assert run([0, 249], 250, 2_000) == [0, 250]


def test_without_a_change_there_is_no_tick():
    assert Coalescer(250).until_tick_ms(1e9) is None


def test_change_during_a_tick_asks_for_another():
    coalescer = Coalescer(250)
    coalescer.note_change()
    coalescer.begin_tick(0)
    coalescer.note_change()
    assert coalescer.until_tick_ms(0) == 250


@pytest.mark.parametrize(
    ("environment", "period_ms"),
    [
        ({}, 250),
        ({"RAYBOOK_PANEL_HZ": "2"}, 500),
        ({"RAYBOOK_PANEL_HZ": "100"}, 250),
        ({"RAYBOOK_PANEL_HZ": "0"}, 5_000),
    ],
)
def test_rate_is_what_the_environment_asks_within_bounds(environment, period_ms):
    assert read_preferences(environment).period_ms == period_ms


def test_unreadable_rate_is_refused_by_name():
    with pytest.raises(ValueError, match="RAYBOOK_PANEL_HZ must be a number, got 'fast'"):
        read_preferences({"RAYBOOK_PANEL_HZ": "fast"})


def test_noninteractive_is_any_word_but_a_no():
    assert not read_preferences({"RAYBOOK_NONINTERACTIVE": "1"}).interactive
    assert read_preferences({"RAYBOOK_NONINTERACTIVE": "0"}).interactive
    assert read_preferences({}).interactive
