"""The scheduler: who starts the next task, and why not the others."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from raybook.data.core import scheduler as s
from raybook.data.core.equal_split import EqualSplitter
from raybook.data.core.parallelism import blocks_wanted
from raybook.data.core.partition_math import even_bounds, pieces_of, proportional_bounds
from raybook.data.core.scheduler import Limits, OperatorView, Scheduler

MB = 1 << 20


def make(cpus=4.0, gpus=0.0, memory=100 * MB, slack=0.0):
    return Scheduler(Limits(cpus, gpus, memory, cpu_slack=slack))


def test_operator_nearest_to_the_consumer_goes_first():
    assert make().choose([OperatorView(0, tasks_ready=5), OperatorView(1, tasks_ready=1)]) == 1


def test_operator_without_input_or_slots_is_passed_over():
    scheduler = make()
    views = [OperatorView(0, tasks_ready=1), OperatorView(1, tasks_ready=1, slots_free=0), OperatorView(2)]
    assert scheduler.choose(views) == 0
    assert scheduler.reasons == {0: s.RUNNING, 1: s.CONCURRENCY, 2: s.NO_INPUT}


def test_cpus_of_running_tasks_are_counted_over_all_operators():
    scheduler = make(cpus=2.0)
    views = [OperatorView(0, tasks_ready=1, running=1), OperatorView(1, tasks_ready=1, running=1)]
    assert scheduler.choose(views) is None
    assert scheduler.reasons[1] == s.RESOURCES


def test_full_memory_stops_the_source_but_not_what_empties_it():
    scheduler = make()
    source = OperatorView(0, tasks_ready=9, queued_bytes=95 * MB, bytes_per_task=10 * MB)
    sink = OperatorView(1, tasks_ready=1, counts_memory=False)
    assert scheduler.choose([source, sink]) == 1
    assert scheduler.choose([source, OperatorView(1)]) == 0, "nothing runs and nothing else can: it must go on"
    assert scheduler.choose([source, OperatorView(1)], consumer_holds=True) is None, "the consumer can take something"
    assert scheduler.choose([source, OperatorView(1, running=1)]) is None
    assert scheduler.reasons[0] == s.MEMORY
    assert "memory budget" in scheduler.explanation(0)


def test_one_operator_may_not_take_the_share_of_the_others():
    scheduler = make()
    greedy = OperatorView(0, tasks_ready=9, running=1, queued_bytes=80 * MB, bytes_per_task=10 * MB)
    assert scheduler.choose([greedy, OperatorView(1)]) is None
    assert scheduler.reasons[0] == s.OWN_SHARE


def test_task_that_asks_for_more_than_there_is_runs_alone_rather_than_never():
    assert make(cpus=1.0).choose([OperatorView(0, tasks_ready=1, cpus=8.0)]) == 0


@given(
    st.lists(
        st.tuples(st.integers(0, 3), st.integers(0, 3), st.integers(0, 60), st.integers(0, 60), st.booleans()),
        min_size=1,
        max_size=5,
    )
)
def test_something_always_starts_when_nothing_runs_and_something_could(operators):
    scheduler = make(cpus=2.0)
    views = [
        OperatorView(i, tasks_ready=ready, running=0, queued_bytes=q * MB, bytes_per_task=b * MB, is_done=done)
        for i, (ready, _, q, b, done) in enumerate(operators)
    ]
    could = any(view.tasks_ready and not view.is_done for view in views)
    assert (scheduler.choose(views) is not None) == could


@given(st.lists(st.integers(0, 20), max_size=8), st.integers(1, 6))
def test_pieces_of_even_bounds_are_all_rows_once(counts, parts):
    bounds = even_bounds(sum(counts), parts)
    ranges = zip(bounds[:-1], bounds[1:], strict=True)
    rows = [(i, o + k) for a, b in ranges for i, o, n in pieces_of(counts, a, b) for k in range(n)]
    assert rows == [(i, k) for i, count in enumerate(counts) for k in range(count)]


def test_proportions_leave_no_part_empty_while_there_are_rows():
    assert proportional_bounds(10, [0.2, 0.3]) == [0, 2, 5, 10]
    assert proportional_bounds(3, [0.01, 0.01]) == [0, 1, 2, 3]


@given(st.lists(st.integers(0, 30), max_size=10), st.integers(1, 5))
def test_equal_splitter_gives_all_the_same_and_keeps_less_than_one_each(blocks, count):
    splitter = EqualSplitter(count)
    given_rows = [0] * count
    for number, rows in enumerate(blocks):
        for index, pieces in enumerate(splitter.add(number, rows)):
            given_rows[index] += sum(length for _, _, length in pieces)
        assert len(set(given_rows)) == 1
    assert 0 <= sum(blocks) - sum(given_rows) < count


def test_number_of_blocks_is_the_users_or_follows_cpus_and_size():
    assert blocks_wanted(7, 1 << 40, 4, 128 * MB, MB, 200) == 7
    assert blocks_wanted(-1, 100, 4, 128 * MB, MB, 200) == 8
    assert blocks_wanted(-1, 1 << 30, 1, 128 * MB, MB, 200) == 16
