"""Counts of functions, as panels and the state API get them."""

from __future__ import annotations

from raybook.base.config import Config
from raybook.core.owner.owner import Owner
from raybook.core.owner.records import FunctionStats
from raybook.worker.facts import FactSource


def source() -> FactSource:
    return FactSource(Owner(b"c" * 8, Config()), b"n" * 16, observed=True)


def version(facts: FactSource, finished: int) -> FunctionStats:
    stats = FunctionStats("cell", b"code")
    stats.submitted = stats.finished = finished
    facts.register(stats)
    return stats


def test_versions_of_one_name_are_one_row() -> None:
    facts = source()
    version(facts, 3)
    version(facts, 4)

    (row,) = facts.function_rows()
    assert (row["name"], row["finished"], row["pending"]) == ("cell", 7, 0)
    assert [fact.row["finished"] for message in facts.take(0) for fact in message.facts] == [7]


def test_the_counts_of_a_forgotten_version_stay_with_its_name() -> None:
    facts = source()
    old, older = version(facts, 3), version(facts, 1)
    version(facts, 4)
    for each in (old, older):
        facts.retire(each)

    (row,) = facts.function_rows()
    assert row["finished"] == 8


def test_a_version_with_a_task_on_its_way_is_busy() -> None:
    stats = FunctionStats("cell", b"code")
    stats.submitted = 1
    assert stats.is_busy
    stats.ended("FINISHED")
    assert not stats.is_busy
    stats.in_flight = 1
    assert stats.is_busy
