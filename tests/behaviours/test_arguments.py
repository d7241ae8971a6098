"""What arguments may be called, and how many there may be."""

from __future__ import annotations

import pytest


def test_arguments_may_have_the_names_of_our_own_parameters(ray):
    @ray.remote
    def work(args, kwargs=1, self=2, options=3):
        return args, kwargs, self, options

    assert ray.get(work.remote(1, kwargs=5, self=6, options=7)) == (1, 5, 6, 7)


def test_keywords_arrive_whatever_they_are_called(ray):
    @ray.remote
    def work(**kwargs):
        return kwargs

    assert ray.get(work.remote(self=1, args=2, a=ray.put(3))) == {"self": 1, "args": 2, "a": 3}


def test_positional_only_and_keyword_only_parameters_are_kept(ray):
    @ray.remote
    def work(a, /, b, *, c):
        return a, b, c

    assert ray.get(work.remote(1, 2, c=3)) == (1, 2, 3)
    with pytest.raises(TypeError, match="positional only"):
        work.remote(a=1, b=2, c=3)
    with pytest.raises(TypeError, match="too many positional arguments"):
        work.remote(1, 2, 3)


@pytest.mark.slow
def test_ten_thousand_references_can_be_arguments_of_one_task(ray):
    @ray.remote
    def count(*numbers):
        return sum(numbers)

    assert ray.get(count.remote(*[ray.put(1) for _ in range(10_000)])) == 10_000


@pytest.mark.slow
def test_one_task_can_have_three_thousand_returns(ray):
    @ray.remote(num_returns=3000)
    def work():
        return range(3000)

    assert ray.get(work.remote()) == list(range(3000))
