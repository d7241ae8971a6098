"""Tasks with very many arguments or returns, and where references among arguments go."""

from __future__ import annotations

import pytest

import raybook as ray

pytestmark = pytest.mark.usefixtures("cluster")


def test_references_anywhere_among_arguments_arrive_as_values_in_their_places():
    @ray.remote
    def take(*args, **kwargs):
        return args, kwargs

    a, b, c = (ray.put(name) for name in "abc")
    args, kwargs = ray.get(take.remote(1, a, [b], 2, b, x=c, y=3, z=a))
    assert args[:2] == (1, "a") and args[3:] == (2, "b") and ray.get(args[2]) == ["b"]
    assert kwargs == {"x": "c", "y": 3, "z": "a"}


@pytest.mark.slow
def test_one_task_takes_ten_thousand_objects_and_another_returns_three_thousand():
    @ray.remote
    def add(*values):
        return sum(values)

    @ray.remote(num_returns=3_000)
    def spread():
        return range(3_000)

    refs = [ray.put(i) for i in range(10_000)]
    assert ray.get(add.remote(*refs)) == sum(range(10_000))
    assert ray.get(spread.remote()) == list(range(3_000))
