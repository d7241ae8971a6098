"""The pure parts of Train: ranks, collectives, rounds of reports, kept checkpoints, failures, sizes."""

from __future__ import annotations

import pytest

from raybook.train.core import run_states as states
from raybook.train.core.checkpoint_book import VALIDATED, CheckpointBook
from raybook.train.core.collectives import CollectiveMismatch, Collectives
from raybook.train.core.failure_policy import CONTROLLER, PREEMPTION, RAISE, RETRY, WORKERS, FailurePolicy
from raybook.train.core.ranks import WorkerPlace, assign_ranks
from raybook.train.core.report_rounds import RankReport, ReportRounds
from raybook.train.core.run_states import RunState
from raybook.train.core.scaling import count_workers, shortage, size_to_change_to, size_to_start


def place(node: str, *gpus: str) -> WorkerPlace:
    return WorkerPlace(node, f"ip-{node}", f"host-{node}", 1, gpus)


def test_ranks_are_consecutive_on_a_node_and_follow_its_devices():
    ranks = assign_ranks([place("a", "1"), place("b", "0"), place("a", "0"), place("b", "10"), place("b", "9")])
    assert [(rank.position, rank.local_rank, rank.node_rank) for rank in ranks] == [
        (2, 0, 0),
        (0, 1, 0),
        (1, 0, 1),
        (4, 1, 1),
        (3, 2, 1),
    ]
    assert [rank.world_rank for rank in ranks] == [0, 1, 2, 3, 4]
    assert [rank.local_world_size for rank in ranks] == [2, 2, 3, 3, 3] and ranks[0].world_size == 5


def test_a_collective_is_released_by_its_last_rank_with_all_payloads():
    collectives = Collectives(3)
    assert collectives.join(1, 1, "barrier") is None
    assert collectives.join(0, 1, "barrier", "zero") is None
    assert collectives.missing(1) == [2]
    assert collectives.join(2, 1, "barrier") == {1: None, 0: "zero", 2: None}
    assert collectives.missing(1) == []


def test_ranks_at_different_verbs_are_told_so():
    collectives = Collectives(2)
    collectives.join(0, 1, "report")
    with pytest.raises(CollectiveMismatch, match="Rank 1 called barrier where ranks .0. called report"):
        collectives.join(1, 1, "barrier")


def test_who_waits_for_a_rank_that_has_returned_is_told_so():
    collectives = Collectives(2)
    collectives.join(0, 1, "report")
    [(number, error)] = collectives.leave(1)
    assert number == 1 and "ranks [1] will never come" in str(error)
    with pytest.raises(CollectiveMismatch, match="has returned|have returned|function has returned"):
        collectives.join(0, 2, "report")


def test_excused_ranks_are_not_waited_for_but_rank_zero_is():
    collectives = Collectives(3)
    collectives.join(0, 1, "report", "zero")
    collectives.join(1, 1, "report", "one")
    collectives.join(1, 2, "report", "later")
    assert collectives.relax([2, 0]) == [(1, {0: "zero", 1: "one"})]
    assert collectives.missing(2) == [0]


def test_rounds_end_in_order_also_when_a_later_upload_is_quicker():
    rounds = ReportRounds()
    rounds.begin(1, "first", {0: RankReport({"a": 1}, True), 1: RankReport({"a": 2}, True)})
    rounds.begin(2, "second", {0: RankReport({"a": 3}, True), 1: RankReport({"a": 4})})
    rounds.saved(2, 0, "second")
    assert rounds.take_finished() == []
    rounds.saved(1, 1, "first")
    assert rounds.take_finished() == []
    rounds.saved(1, 0, "first")
    finished = rounds.take_finished()
    assert [(each.name, each.metrics, each.has_checkpoint) for each in finished] == [
        ("first", {"a": 1}, True),
        ("second", {"a": 3}, True),
    ]
    assert finished[1].metrics_of_ranks == [{"a": 3}, {"a": 4}]


def test_the_book_keeps_the_best_and_always_the_latest():
    book = CheckpointBook(2, "acc", "max")
    given_up = [book.register(name, {"acc": acc}) for name, acc in (("a", 0.9), ("b", 0.5), ("c", 0.7), ("d", 0.1))]
    assert given_up == [[], [], ["b"], []]
    assert [entry.name for entry in book.entries()] == ["a", "c", "d"]
    assert [entry.name for entry in book.ranked()] == ["d", "c", "a"]
    assert book.latest().name == "d"
    assert book.register("e", {"acc": 0.2}) == ["d"]


def test_the_book_keeps_what_is_being_validated_and_ranks_it_anew():
    book = CheckpointBook(1, "score", "min")
    book.register("a", {"score": 5.0}, is_pending=True)
    book.register("b", {"score": 1.0})
    assert [entry.name for entry in book.entries()] == ["a", "b"]
    assert book.validated("a", VALIDATED, {"score": 0.5, "extra": 1}) == []
    assert [(entry.name, entry.status) for entry in book.ranked()] == [("b", "COMMITTED"), ("a", "VALIDATED")]


def test_a_book_is_the_same_after_a_trip_through_its_record():
    book = CheckpointBook(3)
    book.register("a", {"x": {"y": 1}})
    book.reported({"x": 2})
    copy = CheckpointBook(3)
    copy.load(book.to_record())
    assert copy.to_record() == book.to_record() and copy.reports == 2 and copy.last_metrics == {"x": 2}
    with pytest.raises(ValueError, match="version 99"):
        copy.load({"version": 99})
    with pytest.raises(ValueError, match="without 'reports'"):
        copy.load({"version": 1, "checkpoints": []})


@pytest.mark.parametrize(
    ("kind", "limits", "decisions"),
    [
        (WORKERS, {"max_failures": 2}, [RETRY, RETRY, RAISE]),
        (WORKERS, {"max_failures": -1}, [RETRY] * 5),
        (WORKERS, {}, [RAISE]),
        (PREEMPTION, {}, [RETRY] * 5),
        (PREEMPTION, {"max_preemption_failures": 1}, [RETRY, RAISE]),
        (CONTROLLER, {"controller_failure_limit": 0}, [RAISE]),
    ],
)
def test_each_kind_of_failure_has_a_budget_of_its_own(kind, limits, decisions):
    policy = FailurePolicy(**limits)
    assert [policy.decide(kind) for _ in decisions] == decisions


def test_a_failure_that_cannot_be_retried_is_raised_at_once():
    assert FailurePolicy(controller_failure_limit=-1).decide(CONTROLLER, is_retryable=False) == RAISE


def test_workers_are_counted_node_by_node():
    nodes = [{"CPU": 3.0}, {"CPU": 1.0}, {"GPU": 8.0}]
    assert count_workers(nodes, {"CPU": 2}, 10) == 1
    assert count_workers(nodes, {"CPU": 1}, 10) == 4
    assert count_workers(nodes, {"CPU": 1}, 3) == 3
    assert count_workers([{"CPU": 0.3}], {"CPU": 0.1}, 10) == 3
    assert count_workers([], {}, 7) == 7


def test_an_elastic_group_starts_with_what_there_is_and_waits_below_the_minimum():
    assert size_to_start(1, 2, 4) is None
    assert size_to_start(3, 2, 4) == 3
    assert size_to_start(9, 2, 4) == 4
    assert size_to_start(0, 2, 2) == 2, "a fixed size is asked for in full"
    assert size_to_change_to(2, 4, 1, 4) == 4
    assert size_to_change_to(4, 9, 1, 4) is None
    assert size_to_change_to(2, 0, 1, 4) is None


def test_a_shortage_names_what_is_asked_and_what_there_is():
    assert shortage({"CPU": 4.0}, {"CPU": 2, "GPU": 1}, 2) == {"GPU": (2, 0.0)}
    assert shortage({"CPU": 4.0}, {"CPU": 2}, 2) == {}


def test_a_run_takes_only_the_steps_of_the_table():
    state = RunState()
    for step in (states.SCHEDULING, states.RUNNING, states.RESTARTING, states.SCHEDULING, states.RUNNING):
        state.to(step)
    assert state.attempts == 2 and not state.is_over
    state.to(states.FINISHED)
    assert state.is_over
    with pytest.raises(ValueError, match="FINISHED cannot become RUNNING"):
        state.to(states.RUNNING)
