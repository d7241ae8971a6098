"""Objects that lie on other nodes than their readers."""

from __future__ import annotations

import numpy
import pytest

import raybook as ray

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("three_nodes")]
PATIENCE_S = 30
COUNT = 500_000


@ray.remote(resources={"b": 0.01}, num_cpus=0)
def make_on_b(number: int) -> numpy.ndarray:
    return numpy.full(COUNT, number)


@ray.remote(resources={"c": 0.01}, num_cpus=0)
def total_on_c(array: numpy.ndarray) -> int:
    return int(array.sum())


def test_a_result_made_on_another_node_is_read_here():
    array = ray.get(make_on_b.remote(3), timeout=PATIENCE_S)
    assert array.shape == (COUNT,) and (array == 3).all()
    assert not array.flags.writeable


def test_an_object_put_here_is_an_argument_there():
    assert ray.get(total_on_c.remote(ray.put(numpy.ones(COUNT, dtype=int))), timeout=PATIENCE_S) == COUNT


def test_what_one_node_made_another_one_reads_and_the_owner_on_a_third_never_touches_it():
    assert ray.get(total_on_c.remote(make_on_b.remote(2)), timeout=PATIENCE_S) == 2 * COUNT


def test_references_inside_containers_are_read_across_nodes():
    @ray.remote(resources={"c": 0.01}, num_cpus=0)
    def total(parts: list) -> int:
        return sum(int(ray.get(part).sum()) for part in parts)

    parts = [make_on_b.remote(1), ray.put(numpy.ones(COUNT, dtype=int))]
    assert ray.get(total.remote(parts), timeout=PATIENCE_S) == 2 * COUNT


def test_items_of_a_generator_on_another_node_come_here():
    @ray.remote(resources={"b": 0.01}, num_cpus=0)
    def items():
        for number in range(3):
            yield numpy.full(COUNT, number)

    assert [int(ray.get(item)[0]) for item in items.remote()] == [0, 1, 2]


def test_a_view_of_a_copy_stays_right_when_its_reference_is_gone():
    array = ray.get(make_on_b.remote(7), timeout=PATIENCE_S)
    for number in range(5):
        assert int(ray.get(make_on_b.remote(number), timeout=PATIENCE_S)[0]) == number
    assert (array == 7).all()


def test_actors_on_different_nodes_pass_objects_to_each_other():
    @ray.remote(num_cpus=0)
    class Holder:
        def make(self) -> numpy.ndarray:
            return numpy.arange(COUNT)

        def last(self, array: numpy.ndarray) -> int:
            return int(array[-1])

    left = Holder.options(resources={"b": 0.01}).remote()
    right = Holder.options(resources={"c": 0.01}).remote()
    assert ray.get(right.last.remote(left.make.remote()), timeout=PATIENCE_S) == COUNT - 1
