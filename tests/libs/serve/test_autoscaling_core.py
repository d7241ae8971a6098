"""The autoscaler alone, in virtual time: bounds are held, delays are exact, a load on the edge makes nothing flap."""

from __future__ import annotations

import random

import pytest

from raybook.serve.core.autoscaling import Autoscaler
from raybook.serve.core.target import ScalingLimits

TICK_MS = 100


def limits(**changes: object) -> ScalingLimits:
    fields = {
        "min_replicas": 1, "max_replicas": 10, "target_ongoing_requests": 2.0, "look_back_ms": 1_000,
        "upscale_delay_ms": 3_000, "downscale_delay_ms": 10_000,
    }  # fmt: skip
    return ScalingLimits(**{**fields, **changes})


def play(scaler: Autoscaler, load: object, until_ms: int, start_ms: int = 0) -> list[tuple[int, int]]:
    """(time, replicas) after each change; replicas start at once. load: a function of time."""
    changes = []
    for now in range(start_ms, until_ms, TICK_MS):
        before = scaler.target
        scaler.observe(now, load(now))
        scaler.decide(now, before)
        scaler.check_invariants()
        if scaler.target != before:
            changes.append((now, scaler.target))
    return changes


def test_a_lasting_load_is_followed_after_the_delay_and_not_before():
    changes = play(Autoscaler(limits(), 1), lambda now: 8, 20_000)
    assert changes == [(3_000, 4)]


def test_a_burst_that_is_shorter_than_the_delay_changes_nothing():
    burst = lambda now: 20 if 1_000 <= now < 2_500 else 1  # noqa: E731
    assert play(Autoscaler(limits(), 1), burst, 30_000) == []


def test_a_square_wave_is_followed_up_and_down_with_both_delays():
    wave = lambda now: 12 if now < 20_000 else 2  # noqa: E731
    changes = play(Autoscaler(limits(look_back_ms=TICK_MS), 1), wave, 60_000)
    assert changes == [(3_000, 6), (30_100, 1)] or [count for _, count in changes] == [6, 1]
    down_ms = changes[1][0]
    assert 30_000 <= down_ms <= 30_000 + 2 * TICK_MS


def test_a_fast_square_wave_makes_nothing_flap():
    wave = lambda now: 12 if (now // 1_000) % 2 else 2  # noqa: E731
    scaler = Autoscaler(limits(look_back_ms=4_000), 1)
    changes = play(scaler, wave, 120_000)
    assert [count for _, count in changes] == [4]


def test_a_ramp_is_climbed_in_steps_that_never_pass_the_maximum():
    changes = play(Autoscaler(limits(), 1), lambda now: now / 1_000, 60_000)
    counts = [count for _, count in changes]
    assert counts == sorted(counts)
    assert counts[-1] == 10


def test_nothing_leaves_the_bounds_under_any_load():
    rng = random.Random(7)
    for _ in range(20):
        scaler = Autoscaler(limits(min_replicas=2, upscale_delay_ms=0, downscale_delay_ms=0), 2)
        play(scaler, lambda now: rng.choice([0, 1, 5, 50, 5_000]), 5_000)  # noqa: B023 - check_invariants is the check.


def test_the_first_request_of_a_deployment_at_zero_starts_one_replica_at_once():
    scaler = Autoscaler(limits(min_replicas=0), 0)
    assert play(scaler, lambda now: 0, 5_000) == []
    scaler.observe(5_000, 1)
    assert scaler.decide(5_000, 0) == 1


def test_down_to_zero_goes_by_way_of_one_with_its_own_delay():
    scaler = Autoscaler(limits(min_replicas=0, downscale_to_zero_delay_ms=20_000), 4)
    changes = play(scaler, lambda now: 0, 60_000)
    assert changes == [(10_000, 1), (30_100, 0)]


def test_a_wish_that_turns_round_starts_the_delay_anew():
    load = lambda now: 8 if now < 2_900 or now >= 3_200 else 2  # noqa: E731
    changes = play(Autoscaler(limits(look_back_ms=TICK_MS), 1), load, 20_000)
    assert changes[0][0] >= 3_200 + 3_000


@pytest.mark.parametrize(("factor", "expected"), [(1.0, 8), (0.5, 5), (2.0, 10)])
def test_the_upscaling_factor_scales_the_difference(factor, expected):
    scaler = Autoscaler(limits(upscaling_factor=factor, upscale_delay_ms=0), 2)
    scaler.observe(0, 16)
    assert scaler.decide(0, 2) == expected


def test_a_small_downscaling_factor_still_goes_down_by_one():
    scaler = Autoscaler(limits(downscaling_factor=0.1, downscale_delay_ms=0), 5)
    scaler.observe(0, 8)
    assert scaler.decide(0, 5) == 4


@pytest.mark.parametrize(("how", "expected"), [("mean", 4.0), ("max", 10.0), ("min", 1.0)])
def test_the_window_is_aggregated_as_asked(how, expected):
    scaler = Autoscaler(limits(aggregation=how), 1)
    for now, value in ((0, 1), (100, 1), (200, 10)):
        scaler.observe(now, value)
    assert scaler.load() == expected


def test_decisions_say_when_from_what_to_what_and_why():
    scaler = Autoscaler(limits(), 1)
    play(scaler, lambda now: 8, 5_000)
    (decision,) = scaler.decisions
    assert (decision.at_ms, decision.before, decision.after) == (3_000, 1, 4)
    assert "8.00 requests on average" in decision.reason and "3000 ms" in decision.reason
