"""The mirror follows deltas; what a table of latest rows forgets is remembered beside it."""

from __future__ import annotations

from raybook.base.facts import Fact, FactDelta
from raybook.observe import Curve, Mirror, Rates
from raybook.observe.history import POINTS_MAX, thinned


def test_later_row_replaces_the_earlier_one():
    mirror = Mirror()
    mirror.apply(FactDelta(0, 1, [Fact("actor", "a", {"state": "PENDING_CREATION"})]))
    mirror.apply(FactDelta(1, 2, [Fact("actor", "a", {"state": "ALIVE"})]))
    assert mirror.tables().rows("actor") == {"a": {"state": "ALIVE"}}
    assert mirror.version == 2


def test_row_none_forgets_the_key():
    mirror = Mirror()
    mirror.apply(FactDelta(0, 1, [Fact("object", "o", {"size_bytes": 1})]))
    mirror.apply(FactDelta(1, 2, [Fact("object", "o", None)]))
    assert mirror.tables().rows("object") == {}


def test_reset_drops_what_the_snapshot_does_not_have():
    mirror = Mirror()
    mirror.apply(FactDelta(0, 5, [Fact("node", "n1", {}), Fact("actor", "a", {})]))
    mirror.apply(FactDelta(0, 3, [Fact("node", "n2", {})], reset=True))
    assert mirror.tables().rows("node") == {"n2": {}}
    assert mirror.tables().rows("actor") == {}
    assert mirror.version == 3


def test_delta_older_than_the_mirror_changes_nothing():
    mirror = Mirror()
    mirror.apply(FactDelta(0, 5, [Fact("actor", "a", {"state": "DEAD"})]))
    assert mirror.apply(FactDelta(3, 4, [Fact("actor", "a", {"state": "ALIVE"})])) == []
    assert mirror.tables().rows("actor")["a"] == {"state": "DEAD"}


def test_missed_delta_is_counted_and_the_rest_applied():
    mirror = Mirror()
    mirror.apply(FactDelta(0, 1, []))
    mirror.apply(FactDelta(4, 5, [Fact("actor", "a", {})]))
    assert mirror.gaps == 1
    assert "a" in mirror.tables().rows("actor")


def test_changed_since_names_only_the_kinds_that_changed():
    mirror = Mirror()
    mirror.apply(FactDelta(0, 1, [Fact("node", "n", {})]))
    mirror.apply(FactDelta(1, 2, [Fact("actor", "a", {})]))
    assert mirror.changed_since(1) == {"actor"}
    assert mirror.changed_since(2) == frozenset()


def test_picture_taken_before_a_delta_is_left_alone_by_it():
    mirror = Mirror()
    mirror.apply(FactDelta(0, 1, [Fact("actor", "a", {"state": "ALIVE"})]))
    picture = mirror.tables()
    mirror.apply(FactDelta(1, 2, [Fact("actor", "a", {"state": "DEAD"}), Fact("actor", "b", {})]))
    assert picture.rows("actor") == {"a": {"state": "ALIVE"}}


def test_rate_is_what_ended_within_the_window():
    rates = Rates()
    for second in range(6):
        rates.note("f", second * 100, second * 1_000.0)
    assert 95 <= rates.per_second("f", 5_000.0) <= 105


def test_rate_falls_to_nothing_when_nothing_ends():
    rates = Rates()
    rates.note("f", 0, 0.0)
    rates.note("f", 50, 500.0)
    assert rates.per_second("f", 600.0) > 0
    assert rates.per_second("f", 4_000.0) == 0.0
    assert rates.now(4_000.0) == {}


def test_burst_after_an_idle_hour_is_not_averaged_over_the_hour():
    rates = Rates()
    rates.note("f", 10, 0.0)
    rates.note("f", 310, 3_600_000.0)
    assert rates.per_second("f", 3_600_000.0) >= 100


def test_curve_corrects_a_step_it_has_seen_and_stays_bounded():
    curve = Curve()
    curve.note(1, 0.1)
    curve.note(1, 0.2)
    assert curve.points == [0.2]
    for step in range(2, 1_000):
        curve.note(step, float(step))
    assert len(curve.points) <= POINTS_MAX
    assert curve.points[-1] == 999.0


def test_curve_leaves_out_what_cannot_be_drawn():
    curve = Curve()
    curve.note(1, float("nan"))
    curve.note(2, float("inf"))
    assert curve.points == []


def test_thinning_keeps_the_first_and_the_last_point():
    points = [float(number) for number in range(500)]
    kept = thinned(points, 60)
    assert len(kept) == 60
    assert (kept[0], kept[-1]) == (0.0, 499.0)
