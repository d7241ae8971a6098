"""Progress bars of tasks: counts as state for whoever looks, terminal bars where nobody does."""

from __future__ import annotations

import sys

import numpy
import pytest

import raybook as ray
from raybook import api
from raybook.api.observed import fact_rows
from raybook.experimental import tqdm_ray


def test_a_task_tells_its_count_and_that_it_is_over(cluster, eventually):
    @api.remote
    def work(count: int) -> int:
        return sum(tqdm_ray.tqdm(range(count), desc="squaring", unit="squares"))

    assert api.get(work.remote(10)) == 45

    def told() -> bool:
        rows = [row for row in fact_rows("progress")["progress"] if row["desc"] == "squaring"]
        return [(row["done"], row["total"], row["unit"], row["state"]) for row in rows] == [
            (10, 10, "squares", "FINISHED")
        ] and rows[0]["name"].endswith("work")

    eventually(told)


def test_a_bar_without_an_end_counts_by_hand_in_any_numbers(cluster, eventually):
    @api.remote
    def load() -> bool:
        with tqdm_ray.tqdm(desc="loading", flush_interval_s=0) as bar:
            bar.update(numpy.int64(3))
            bar.set_description("loaded")
            bar.total = 8
            bar.update(0.5)
        return True

    assert api.get(load.remote())

    def told() -> bool:
        rows = [row for row in fact_rows("progress")["progress"] if row["desc"] == "loaded"]
        return [(row["done"], row["total"]) for row in rows] == [(3.5, 8)]

    eventually(told)


def test_a_quick_loop_tells_only_now_and_then(monkeypatch):
    told = []
    monkeypatch.setattr(tqdm_ray, "_is_drawn_here", lambda: False)
    monkeypatch.setattr(tqdm_ray.current_runtime, "engine", object())
    monkeypatch.setattr(tqdm_ray.tqdm, "_get_state", lambda self: {"done": self._x, "closed": self._closed})
    monkeypatch.setattr(tqdm_ray, "publish_fact", lambda kind, key, row: told.append(row))
    for _ in tqdm_ray.tqdm(range(100_000), flush_interval_s=3600):
        pass
    assert [row["done"] for row in told] == [0, 100_000, 100_000]
    assert told[-1]["closed"]


def test_without_a_cluster_the_terminal_shows_the_bar(capsys):
    ray.shutdown()
    for _ in tqdm_ray.tqdm(range(3), desc="local"):
        tqdm_ray.safe_print("beside it")
    shown = capsys.readouterr()
    assert "local" in shown.err
    assert shown.out.count("beside it") == 3


def test_without_the_package_it_counts_silently(monkeypatch, capsys):
    ray.shutdown()
    monkeypatch.setattr(tqdm_ray, "find_spec", lambda name: None)
    assert list(tqdm_ray.tqdm(iter("ab"))) == ["a", "b"]
    tqdm_ray.safe_print("plain", file=sys.stdout)
    assert capsys.readouterr() == ("plain\n", "")


def test_a_bar_over_nothing_says_so():
    bar = tqdm_ray.tqdm(desc="by hand", total=2)
    with pytest.raises(ValueError, match="No iterable provided"):
        next(iter(bar))
    bar.close()
