"""The optimizer: which plans become which, without a cluster."""

from __future__ import annotations

from dataclasses import replace

from raybook.data.core.optimizer import known_row_count, optimize
from raybook.data.core.plan import Aggregate, InputData, Limit, Map, RandomShuffle, Read, Repartition, Sort, Union


class Source:
    """A source that can do everything, and remembers what it was asked for."""

    def __init__(self, columns=None, predicates=(), limit=None, able=True):
        self.columns, self.predicates, self.limit, self.able = columns, predicates, limit, able

    def with_projection(self, columns):
        return Source(columns, self.predicates, self.limit) if self.able else None

    def with_predicate(self, predicate):
        return Source(self.columns, (*self.predicates, predicate), self.limit) if self.able else None

    def with_limit(self, limit):
        return Source(self.columns, self.predicates, limit) if self.able else None


def read(able=True):
    return Read((), Source(able=able), "Test")


def select(below, *columns):
    return Map((below,), None, "Project", columns=columns, keeps_row_count=True, has_user_code=False)


def where(below, *columns, deterministic=True):
    return Map(
        (below,),
        None,
        "Filter",
        predicate="+".join(columns),
        predicate_columns=frozenset(columns),
        is_deterministic=deterministic,
    )


def function(below, keeps=False):
    return Map((below,), None, "Map", keeps_row_count=keeps)


def test_projection_goes_into_the_read_and_is_gone():
    plan = optimize(select(read(), "b", "a"))
    assert isinstance(plan, Read)
    assert plan.datasource.columns == ["b", "a"]


def test_filter_goes_into_the_read_and_is_gone():
    plan = optimize(where(where(read(), "a"), "b"))
    assert isinstance(plan, Read)
    assert plan.datasource.predicates == ("a", "b")


def test_projection_above_a_filter_reads_what_both_need():
    plan = optimize(select(where(read(able=False), "a"), "b"))
    assert plan.columns == ("b",)
    able = optimize(select(where(read(), "a", deterministic=False), "b"))
    assert able.columns == ("b",)
    assert able.inputs[0].inputs[0].datasource.columns == ["b", "a"]


def test_source_that_can_nothing_keeps_its_steps():
    plan = optimize(where(select(read(able=False), "a"), "a"))
    assert [node.name for node in plan.walk()] == ["Project", "Filter", "ReadTest"]


def test_nothing_moves_past_a_users_function():
    plan = optimize(where(function(read()), "a"))
    assert [node.name for node in plan.walk()] == ["Filter", "Map", "ReadTest"]


def test_filter_sinks_below_sort_and_unseeded_shuffle_only():
    assert optimize(where(Sort((function(read()),), ("a",), (False,)), "a")).name == "Sort"
    assert optimize(where(RandomShuffle((function(read()),)), "a")).name == "RandomShuffle"
    assert optimize(where(RandomShuffle((function(read()),), seed=1), "a")).name == "Filter"


def test_filter_that_draws_random_numbers_stays_where_it_is():
    assert optimize(where(read(), "a", deterministic=False)).name == "Filter"


def test_limit_sinks_below_rows_of_rows_but_not_below_filters():
    plan = optimize(Limit((function(read(), keeps=True),), 3))
    assert [node.name for node in plan.walk()] == ["Map", "Limit[limit=3]", "ReadTest"]
    assert plan.inputs[0].inputs[0].datasource.limit == 3
    plan = optimize(Limit((function(read()),), 3))
    assert [node.name for node in plan.walk()] == ["Limit[limit=3]", "Map", "ReadTest"]


def test_limits_meet_and_reach_every_side_of_a_union():
    plan = optimize(Limit((Limit((Union((read(), read())),), 5),), 3))
    assert plan.limit == 3
    assert [one.limit for one in plan.inputs[0].inputs] == [3, 3]


def test_filter_does_not_go_into_a_read_that_is_limited():
    plan = optimize(where(Limit((read(),), 3), "a"))
    assert [node.name for node in plan.walk()] == ["Filter", "Limit[limit=3]", "ReadTest"]


def test_aggregate_reads_its_own_columns_only():
    plan = optimize(Aggregate((read(),), ("k",), (), None, ("k", "v")))
    assert plan.inputs[0].datasource.columns == ["k", "v"]


def test_part_that_stands_twice_in_a_plan_stays_one():
    shared = function(read())
    plan = optimize(Union((select(shared, "a"), shared)))
    assert plan.inputs[0].inputs[0] is plan.inputs[1]


def test_count_is_known_through_what_keeps_rows_but_not_through_functions():
    leaf = InputData((), ())
    assert known_row_count(Sort((select(leaf, "a"),), ("a",), (False,)), lambda _: 7) == 7
    assert known_row_count(Limit((Union((leaf, leaf)),), 10), lambda _: 7) == 10
    assert known_row_count(Repartition((leaf,), 3), lambda _: 7) == 7
    assert known_row_count(function(leaf, keeps=True), lambda _: 7) is None
    assert known_row_count(replace(read(), row_limit=3), lambda _: 7) is None
