"""What num_returns makes of a result."""

from __future__ import annotations

import pytest


def test_no_returns_give_no_reference(ray):
    @ray.remote(num_returns=0)
    def work():
        return 1

    assert work.remote() is None


@pytest.mark.parametrize("made", [(1, 2), [1, 2], {1: "a", 2: "b"}, "ab"])
def test_a_result_with_a_length_is_taken_apart(ray, made):
    @ray.remote(num_returns=2)
    def work():
        return made

    assert ray.get(work.remote()) == list(made)


def test_too_many_values_are_the_error_of_all_returns_without_our_frames(ray):
    @ray.remote(num_returns=2)
    def work():
        return 1, 2, 3

    refs = work.remote()
    for ref in refs:
        with pytest.raises(ValueError, match="Task returned 3 objects, but num_returns=2") as caught:
            ray.get(ref)
        assert "File" not in str(caught.value)


@pytest.mark.parametrize("made", [None, 5])
def test_a_result_without_a_length_is_a_type_error(ray, made):
    @ray.remote(num_returns=2)
    def work():
        return made

    with pytest.raises(TypeError, match="has no len"):
        ray.get(work.remote())


def test_options_change_the_number_of_returns(ray):
    @ray.remote(num_returns=3)
    def work():
        return 1, 2, 3

    assert ray.get(work.options(num_returns=1).remote()) == (1, 2, 3)
    assert ray.get(work.remote()) == [1, 2, 3]


def test_a_generator_with_declared_returns_gives_one_item_to_each(ray):
    @ray.remote(num_returns=2)
    def work():
        yield 1
        yield 2

    assert ray.get(work.remote()) == [1, 2]
    assert ray.get(work.options(num_returns=1).remote()) == 1


def test_a_method_that_yields_can_have_declared_returns(ray):
    @ray.remote
    class Maker:
        def numbers(self):
            yield 1
            yield 2

    @ray.remote
    class AsyncMaker:
        async def other(self):
            return 0

        def numbers(self):
            yield 1
            yield 2

    for maker in (Maker.remote(), AsyncMaker.remote()):
        assert ray.get(maker.numbers.options(num_returns=2).remote()) == [1, 2]


def test_items_beyond_the_declared_number_are_not_asked_for(ray):
    @ray.remote(num_returns=2)
    def work():
        yield 1
        yield 2
        raise ValueError("never reached")

    assert ray.get(work.remote()) == [1, 2]


def test_items_before_an_error_keep_their_values(ray):
    @ray.remote(num_returns=3)
    def work():
        yield 1
        raise KeyError("bad")

    first, second, third = work.remote()
    assert ray.get(first) == 1
    for ref in (second, third):
        with pytest.raises(KeyError):
            ray.get(ref)


def test_a_generator_that_ends_early_is_the_error_of_what_is_missing(ray):
    @ray.remote(num_returns=3)
    def work():
        yield 1
        yield 2

    first, second, third = work.remote()
    assert ray.get([first, second]) == [1, 2]
    with pytest.raises(ValueError, match="Task returned 2 objects, but num_returns=3"):
        ray.get(third)


def test_a_generator_that_is_retried_gives_the_items_of_its_last_attempt(ray, attempts):
    @ray.remote(num_returns=2, retry_exceptions=True, max_retries=1)
    def work():
        attempt = attempts()
        yield attempt
        if attempt == 1:
            raise ValueError("the first time")
        yield attempt

    assert ray.get(work.remote()) == [2, 2]


@pytest.mark.parametrize("word", ["streaming", "dynamic"])
def test_only_generator_functions_can_stream(ray, word):
    def work():
        return [1]

    with pytest.raises(ValueError, match="can only be used with generator functions"):
        ray.remote(num_returns=word)(work)
    with pytest.raises(ValueError, match="can only be used with generator functions"):
        ray.remote(work).options(num_returns=word)
