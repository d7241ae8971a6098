"""Actor pools: order, time-outs, and which actors are free."""

from __future__ import annotations

import pytest

import raybook as ray
from raybook.util import ActorPool

pytestmark = pytest.mark.usefixtures("four_cpus")


@pytest.fixture
def make_pool():
    def make(size=2):
        class Worker:
            def double(self, value):
                return 2 * value

            def fail(self, text):
                raise ValueError(text)

            def wait_for(self, gates, value):
                if gates:
                    ray.get(gates[0].wait.remote())
                return value

        return ActorPool([ray.remote(Worker).remote() for _ in range(size)])

    return make


def double(actor, value):
    return actor.double.remote(value)


def waiting_for(gate, slow):
    """A call that waits at the gate for the values in ``slow``."""
    return lambda actor, value: actor.wait_for.remote([gate] if value in slow else [], value)


def test_map_keeps_the_order_of_values(make_pool):
    assert list(make_pool().map(double, range(7))) == [0, 2, 4, 6, 8, 10, 12]


def test_map_submits_before_anything_is_asked_for(make_pool):
    seen = []

    def call(actor, value):
        seen.append(value)
        return actor.double.remote(value)

    results = make_pool(size=3).map(call, [1, 2, 3])
    assert seen == [1, 2, 3]
    assert list(results) == [2, 4, 6]


def test_map_unordered_gives_what_is_ready_while_another_call_still_runs(make_pool, make_gate):
    gate = make_gate()
    results = make_pool().map_unordered(waiting_for(gate, {"slow"}), ["slow", "a", "b", "c"])
    assert [next(results) for _ in range(3)] == ["a", "b", "c"]
    ray.get(gate.open.remote())
    assert list(results) == ["slow"]


def test_a_second_map_drops_what_the_first_did_not_hand_out(make_pool):
    pool = make_pool()
    pool.map(double, range(5))
    assert list(pool.map(double, [10, 20])) == [20, 40]
    assert not pool.has_next()


def test_submit_queues_calls_when_no_actor_is_free(make_pool):
    pool = make_pool(size=1)
    for value in range(3):
        pool.submit(double, value)
    assert not pool.has_free()
    assert [pool.get_next() for _ in range(3)] == [0, 2, 4]
    assert pool.has_free()


def test_get_next_goes_on_in_order_after_get_next_unordered(make_pool, make_gate):
    gate = make_gate()
    pool = make_pool(size=3)
    for value in ("slow", "quick", "quicker"):
        pool.submit(waiting_for(gate, {"slow"}), value)
    assert pool.get_next_unordered() in ("quick", "quicker")
    ray.get(gate.open.remote())
    assert pool.get_next() == "slow"
    assert pool.get_next() in ("quick", "quicker")


def test_time_out_leaves_the_result_to_be_asked_for_again(make_pool, make_gate):
    gate = make_gate()
    pool = make_pool(size=1)
    pool.submit(waiting_for(gate, {1}), 1)
    with pytest.raises(TimeoutError, match="Timed out waiting for result"):
        pool.get_next(timeout=0.01)
    with pytest.raises(TimeoutError):
        pool.get_next_unordered(timeout=0.01)
    ray.get(gate.open.remote())
    assert pool.get_next(timeout=10) == 1


def test_ignored_time_out_drops_the_call_and_goes_on(make_pool, make_gate):
    gate = make_gate()
    pool = make_pool()
    pool.submit(waiting_for(gate, {1}), 1)
    pool.submit(waiting_for(gate, {1}), 2)
    with pytest.raises(TimeoutError, match="has been ignored"):
        pool.get_next(timeout=0.01, ignore_if_timedout=True)
    assert pool.get_next() == 2
    assert not pool.has_next()
    ray.get(gate.open.remote())


def test_nothing_left_is_a_stop_iteration(make_pool):
    with pytest.raises(StopIteration, match="No more results to get"):
        make_pool().get_next()


def test_error_of_a_call_is_raised_and_its_actor_is_free_again(make_pool):
    pool = make_pool(size=1)
    pool.submit(lambda actor, text: actor.fail.remote(text), "broken")
    with pytest.raises(ValueError, match="broken"):
        pool.get_next()
    assert pool.has_free()
    assert list(pool.map(double, [4])) == [8]


def test_pop_idle_takes_actors_out_and_push_puts_them_in(make_pool):
    pool = make_pool(size=1)
    actor = pool.pop_idle()
    assert actor is not None and pool.pop_idle() is None
    assert not pool.has_free()
    pool.push(actor)
    assert list(pool.map(double, [1, 2])) == [2, 4]


def test_pushing_an_actor_that_is_in_the_pool_is_refused(make_pool, make_gate):
    gate = make_gate()
    pool = make_pool(size=1)
    actor = pool.pop_idle()
    pool.push(actor)
    with pytest.raises(ValueError, match="already belongs"):
        pool.push(actor)
    pool.submit(waiting_for(gate, {1}), 1)
    with pytest.raises(ValueError, match="already belongs"):
        pool.push(actor)
    ray.get(gate.open.remote())
    assert pool.get_next() == 1
