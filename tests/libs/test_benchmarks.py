"""Benchmarks: the arithmetic of the ratio table, and that every row runs on the engine at hand.

The arithmetic is tested purely. The rows run with a tiny time box on whichever engine this interpreter can import
(raybook first) and are marked slow: they prove that a row measures something, never how fast it is.
"""

from __future__ import annotations

import importlib
import importlib.util
import json
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"
sys.path.insert(0, str(BENCHMARKS))

core, figures, plan, rows, measure, engine_process = (
    importlib.import_module(name)
    for name in (
        "core",
        "microbench.figures",
        "microbench.plan",
        "microbench.rows",
        "microbench.measure",
        "engine_process",
    )
)
RowResult, TableLine, Engine = figures.RowResult, figures.TableLine, engine_process.Engine

ENGINE = next((name for name in ("raybook", "ray") if importlib.util.find_spec(name)), None)


def never(row: object, deadline_s: float) -> None:
    raise AssertionError(f"{row} was given up after {deadline_s} s")


def delivered(*samples: float, unit: str = "/s") -> RowResult:
    return RowResult("some_row", figures.STATUS_OK, unit, samples)


def line(ours: RowResult, peer: RowResult, goal: float | None = None, title: str = "some row") -> TableLine:
    return TableLine(title, ours, peer, goal)


def test_ratio_of_rates_is_ours_over_the_peers():
    assert line(delivered(3000), delivered(1000)).ratio == pytest.approx(3.0)


def test_ratio_of_times_is_the_peers_over_ours():
    assert line(delivered(0.5, unit="s"), delivered(10.0, unit="s")).ratio == pytest.approx(20.0)


def test_ratio_below_one_means_that_ours_is_worse_for_both_kinds():
    assert line(delivered(10), delivered(20)).ratio == pytest.approx(0.5)
    assert line(delivered(2.0, unit="s"), delivered(1.0, unit="s")).ratio == pytest.approx(0.5)


def test_row_without_a_figure_of_one_engine_has_no_ratio():
    failed = RowResult("some_row", figures.STATUS_FAILED, reason="ValueError: no")
    assert line(failed, delivered(5)).ratio is None
    assert line(delivered(5), failed).ratio is None


def test_goal_is_a_ceiling_for_times_and_a_floor_for_rates():
    assert figures.goal_reached(0.1, 0.12, "s") is True
    assert figures.goal_reached(0.2, 0.12, "s") is False
    assert figures.goal_reached(500.0, 400.0, "/s") is True
    assert figures.goal_reached(300.0, 400.0, "/s") is False


def test_missing_figure_has_not_reached_its_goal_and_a_missing_goal_is_neither():
    assert figures.goal_reached(None, 400.0, "/s") is False
    assert figures.goal_reached(300.0, None, "/s") is None


def test_geometric_mean_is_the_root_of_the_product():
    assert figures.geometric_mean([2.0, 8.0]) == pytest.approx(4.0)
    assert figures.geometric_mean([1.0, 10.0, 100.0]) == pytest.approx(10.0)
    assert figures.geometric_mean([]) is None


def test_geometric_mean_of_many_large_ratios_does_not_overflow():
    assert figures.geometric_mean([1e300] * 1000) == pytest.approx(1e300)


def test_summary_leaves_out_rows_without_ratio_and_names_them():
    failed = RowResult("some_row", figures.STATUS_FAILED)
    summary = figures.summarize(
        [
            line(delivered(40), delivered(10), 30.0, "fast"),
            line(delivered(10), delivered(10), 30.0, "slow"),
            line(failed, delivered(10), 30.0, "broken"),
        ]
    )
    assert summary.mean == pytest.approx(2.0)
    assert summary.lowest.title == "slow"
    assert (summary.compared, summary.goals_reached, summary.goals) == (2, 1, 3)
    assert summary.missing == ("broken",)


def test_median_and_spread_come_from_all_samples():
    result = delivered(90.0, 100.0, 130.0)
    assert result.median == 100.0
    assert result.spread == pytest.approx(0.2)
    assert delivered(90.0).spread is None


def test_rounds_are_pooled_and_one_good_round_is_enough():
    failed = RowResult("some_row", figures.STATUS_FAILED, reason="hung")
    assert figures.merge([delivered(1.0, 2.0), failed, delivered(3.0)], "some_row").samples == (1.0, 2.0, 3.0)
    assert figures.merge([failed], "some_row") is failed
    assert figures.merge([], "some_row").status == figures.STATUS_NOT_RUN


def test_result_survives_its_way_through_json():
    result = RowResult("some_row", figures.STATUS_OK, "GB/s", (1.5, 2.5), "")
    assert RowResult.from_json(json.loads(json.dumps(result.to_json()))) == result


def test_table_shows_ratio_goal_and_the_reason_of_a_failure():
    failed = RowResult("b", figures.STATUS_FAILED, reason="ValueError: no such thing")
    text = figures.format_table(
        [line(delivered(20000.0), delivered(500.0), 12000.0, "a"), line(failed, delivered(7.0), None, "b")]
    )
    assert "40.0×" in text
    assert "20,000 /s" in text
    assert "12,000 /s" in text
    assert "b · raybook · failed: ValueError: no such thing" in text


def test_further_peers_stand_beside_the_ratio_and_enter_no_mean():
    missing = RowResult("some_row", figures.STATUS_NOT_YET, reason="there are no actors")
    both = TableLine(
        "a", delivered(20000.0), delivered(500.0), others=(("Dask", delivered(1000.0)), ("other", missing))
    )
    text = figures.format_table([both])
    assert "1,000 /s (20.0×)" in text and "there are no actors" not in text
    assert figures.summarize([both]).mean == pytest.approx(40.0)


def test_rows_are_chosen_by_key_and_by_group_and_keep_their_order():
    chosen = plan.select(["task_async", "task_sync", plan.STARTUP])
    assert [row.key for row in chosen] == ["import", "init", "first_task", "shutdown", "task_sync", "task_async"]


def test_unknown_row_is_refused_with_the_known_ones():
    with pytest.raises(ValueError, match=r"called task_sink.*task_sync"):
        plan.select(["task_sink"])


def test_every_row_has_a_goal_and_a_function_unless_it_is_about_start_up():
    for row in plan.ROWS:
        assert plan.goal_of(row, memcpy_gb_per_s=10.0) is not None, row.key
        assert (row.function is None) == (row.group == plan.STARTUP), row.key


def test_goal_of_a_large_put_follows_the_memcpy_of_the_run():
    assert plan.goal_of(plan.ROW_BY_KEY["put_large_warm"], memcpy_gb_per_s=15.0) == pytest.approx(12.0)


def test_quick_shortens_the_box_whatever_else_is_given():
    options = core.parse_options(["--seconds", "5", "--quick"])
    assert (options.seconds, options.repeats) == (0.3, 1)


def test_time_box_is_filled_and_counts_what_the_steps_report():
    figure = rows.rate(lambda: 7, seconds=0.01)
    assert figure.unit == "/s"
    assert figure.value > 7 / 0.02


def test_missing_api_is_told_apart_from_a_failure():
    with pytest.raises(rows.NotYet, match="no_such_room"):
        rows.require(json, "no_such_room.thing")
    assert rows.require(json, "decoder.JSONDecoder") is json.JSONDecoder


def test_row_that_raises_is_reported_and_does_not_raise():
    def broken(ray: ModuleType, seconds: float) -> figures.Figure:
        raise KeyError("first\nsecond")

    row = plan.Row("broken", "broken", "tasks", broken)
    result = measure.measure(json, row, seconds=0.01, repeats=3, deadline_s=5.0, give_up=never)
    assert result.status == figures.STATUS_FAILED
    assert result.reason.startswith("KeyError")


def test_row_beyond_its_deadline_is_interrupted_and_reported():
    def endless(ray: ModuleType, seconds: float) -> figures.Figure:
        while True:
            pass

    result = measure.measure(json, plan.Row("endless", "endless", "tasks", endless), 0.01, 1, 0.05, never)
    assert result.status == figures.STATUS_FAILED
    assert "not finished after 0.05 s" in result.reason


@pytest.mark.slow
@pytest.mark.skipif(ENGINE is None, reason="neither raybook nor Ray can be imported here")
def test_every_row_measures_something_on_the_engine_at_hand():
    arguments = ["--engine", ENGINE, "--seconds", "0.02", "--repeats", "1", "--deadline-s", "60"]
    finished = subprocess.run(
        [sys.executable, BENCHMARKS / "run_rows.py", *arguments],
        cwd=BENCHMARKS,
        env=Engine(ENGINE, Path(sys.executable)).environment(),
        capture_output=True,
        text=True,
        timeout=240,
        check=True,
    )
    reported = [RowResult.from_json(json.loads(text)) for text in finished.stdout.splitlines() if text[:6] == '{"row"']
    assert [result.row for result in reported] == [row.key for row in plan.ROWS if row.function]
    assert {result.row: result.reason for result in reported if result.status == figures.STATUS_FAILED} == {}
    assert all(result.median > 0 for result in reported if result.status == figures.STATUS_OK)


@pytest.mark.slow
@pytest.mark.skipif(ENGINE is None, reason="neither raybook nor Ray can be imported here")
def test_start_up_probe_reports_four_times():
    finished = subprocess.run(
        [sys.executable, BENCHMARKS / "startup_probe.py", ENGINE],
        env=Engine(ENGINE, Path(sys.executable)).environment(),
        capture_output=True,
        text=True,
        timeout=90,
        check=True,
    )
    times = json.loads(finished.stdout.splitlines()[-1])
    assert sorted(times) == ["first_task", "import", "init", "shutdown"]
    assert all(value > 0 for value in times.values())
