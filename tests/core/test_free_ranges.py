"""Free ranges against a dumb reference: a byte map."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raybook.core.node.free_ranges import FreeRanges, bin_of

SPACE = 512


def test_larger_ranges_never_have_a_smaller_bin():
    bins = [bin_of(size) for size in range(1, 5000)]

    assert bins == sorted(bins)


def test_neighbours_become_one_range_again():
    ranges = FreeRanges()
    ranges.put(0, 64)
    ranges.put(128, 64)

    ranges.put(64, 64)

    assert list(ranges) == [(0, 192)]


def test_ranges_are_not_joined_across_a_fence():
    ranges = FreeRanges()
    ranges.add_fence(64)

    ranges.put(0, 64)
    ranges.put(64, 64)

    assert list(ranges) == [(0, 64), (64, 64)]
    assert ranges.take(128) is None
    ranges.check_invariants()


def test_newest_range_is_taken_first():
    ranges = FreeRanges()
    for start in (0, 1000, 2000):
        ranges.put(start, 100)

    assert ranges.take(100) == 2000


def test_take_up_to_cuts_a_larger_range():
    ranges = FreeRanges()
    ranges.put(0, 100)

    assert ranges.take_up_to(30) == (0, 30)
    assert list(ranges) == [(30, 70)]


def test_freeing_twice_is_found_by_the_check():
    ranges = FreeRanges()
    ranges.put(0, 100)
    ranges.put(50, 10)

    with pytest.raises(AssertionError, match="overlap"):
        ranges.check_invariants()


@settings(max_examples=150, deadline=None, derandomize=True)
@given(
    fences=st.sets(st.integers(1, SPACE - 1), max_size=4),
    steps=st.lists(st.tuples(st.booleans(), st.integers(1, 80)), max_size=60),
)
def test_ranges_agree_with_a_byte_map(fences, steps):
    ranges = FreeRanges()
    for fence in fences:
        ranges.add_fence(fence)
    edges = [0, *sorted(fences), SPACE]
    for start, end in itertools.pairwise(edges):
        ranges.put(start, end - start)
    is_free = [True] * SPACE
    taken: list[tuple[int, int]] = []
    for wants_free, number in steps:
        if wants_free and taken:
            start, size = taken.pop(number % len(taken))
            ranges.put(start, size)
            is_free[start : start + size] = [True] * size
        else:
            start = ranges.take(number)
            longest = _longest_run(is_free, fences)
            assert start is not None or longest < number * 1.25, "a fitting range was overlooked"
            if start is not None:
                assert all(is_free[start : start + number])
                assert not any(start < fence < start + number for fence in fences)
                is_free[start : start + number] = [False] * number
                taken.append((start, number))
        ranges.check_invariants()
        assert ranges.free_bytes == sum(is_free)


def _longest_run(is_free: list[bool], fences: set[int]) -> int:
    longest = run = 0
    for address, free in enumerate(is_free):
        run = (0 if address in fences else run) + 1 if free else 0
        longest = max(longest, run)
    return longest
