"""The soak: its arithmetic, and that a run of some seconds does what it says."""

from __future__ import annotations

import importlib
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"
sys.path.insert(0, str(BENCHMARKS))

soak, soak_census = (importlib.import_module(name) for name in ("soak", "soak_census"))
Census = soak_census.Census


def laps(**figures: list[float]) -> list:
    """Laps in which all is still, but for the given figures."""
    count = len(next(iter(figures.values())))
    return [
        Census(float(lap), {key: figures[key][lap] if key in figures else 7.0 for key in soak_census.BOUNDS})
        for lap in range(count)
    ]


def growing(census: list) -> list[str]:
    return [verdict.title for verdict in soak_census.judge(census) if not verdict.is_flat]


def test_what_stays_as_it_is_passes():
    assert growing(laps(head_fds=[30.0] * 9)) == []


def test_what_grows_lap_by_lap_is_named():
    assert growing(laps(head_fds=[30.0 + 2 * lap for lap in range(9)])) == ["head, open files"]


def test_one_lap_that_stands_out_is_no_growth():
    assert growing(laps(driver_threads=[3.0, 3.0, 3.0, 3.0, 9.0, 3.0, 3.0, 3.0, 3.0])) == []


def test_two_laps_tell_nothing():
    with pytest.raises(ValueError, match="three are the least"):
        soak_census.judge(laps(head_fds=[1.0, 2.0]))


def test_a_report_names_what_grew_and_says_that_all_is_not_well():
    tally = soak.Tally()
    tally.done["fan"], tally.seconds["fan"] = 4, 1.0
    text, is_well = soak.report(1, 10, "a machine", tally, laps(head_fds=[30.0 + 3 * lap for lap in range(12)]))
    assert not is_well and re.search(r"head, open files .*GROWS", text) and text.count("GROWS") == 1
    text, is_well = soak.report(1, 10, "a machine", tally, laps(head_fds=[30.0] * 12))
    assert is_well and "GROWS" not in text


def test_rows_of_tables_are_found_through_attributes_and_named_by_their_path():
    class Inner:
        __slots__ = ("rows",)

        def __init__(self) -> None:
            self.rows = [1, 2, 3]

    class Outer:
        def __init__(self) -> None:
            self.inner = Inner()
            self.table = {"a": 1}

    Inner.__module__ = Outer.__module__ = "raybook.somewhere"
    assert soak_census.table_sizes(Outer(), "it") == {"it.inner.rows": 3, "it.table": 1}


@pytest.mark.slow
def test_a_run_of_seconds_checks_results_counts_and_writes_its_page(tmp_path):
    page = tmp_path / "soak.md"
    work = ["fan", "chain", "counters", "cancelled", "suicidal", "large_objects", "generated", "grouped", "queued"]
    done = subprocess.run(
        [
            sys.executable,
            BENCHMARKS / "soak.py",
            "--minutes",
            "0.02",
            "--lap-s",
            "0.4",
            "--report",
            page,
            "--only",
            *work,
        ],
        capture_output=True,
        text=True,
        timeout=55,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert done.returncode == 0, done.stdout + done.stderr
    text = page.read_text()
    assert re.search(r"all +\d+   failures: 0", text), text
    assert "head, open files" in text and "Not judged: " in text, text
