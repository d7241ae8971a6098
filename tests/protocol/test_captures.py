"""What functions drag along, by name and size."""

from __future__ import annotations

from array import array

import pytest

from raybook.protocol import functions
from raybook.protocol.captures import captures_of, functions_of, globals_read, size_of
from raybook.protocol.serialization import SerializationContext

MIB = 1 << 20
table = bytes(3 * MIB)
other_table = bytearray(2 * MIB)
small = 7


def reads_two() -> int:
    return len(table) + len(other_table) + small


def reads_through_another() -> int:
    return reads_two()


class Reader:
    weights = (1, 2)

    def read(self) -> int:
        return len(table)

    @property
    def other(self) -> int:
        return len(other_table)


def names_of(target: object, size_min: int = MIB) -> list[str]:
    return [capture.name for capture in captures_of(target, size_min)]  # type: ignore[arg-type]


def test_globals_that_a_function_reads_are_found_largest_first():
    assert names_of(reads_two) == ["table", "other_table"]
    assert captures_of(reads_two, MIB)[0].size == 3 * MIB


def test_functions_that_a_function_calls_bring_what_they_read():
    assert names_of(reads_through_another) == ["table", "other_table"]


def test_a_class_captures_what_its_methods_and_properties_read():
    assert names_of(Reader) == ["table", "other_table"]
    assert [function.__name__ for function in functions_of(Reader)] == ["read", "other"]


def test_closures_and_defaults_count():
    mine = bytes(2 * MIB)

    def inner(given: bytes = bytes(MIB)) -> int:
        return len(mine) + len(given)

    assert names_of(inner) == ["mine", "given"]


def test_a_value_under_two_names_counts_once():
    twice = table

    def reads_it_twice() -> bool:
        return twice is table

    assert len(captures_of(reads_it_twice, MIB)) == 1


def test_a_closure_that_is_not_bound_yet_and_itself_do_no_harm():
    def first(n: int) -> int:
        return first(n - 1) if n else later

    assert names_of(first, 0) == []
    later = 1
    assert first(2) == 1


def test_names_of_attributes_are_no_globals():
    def reads(value: array) -> object:
        return value.table

    assert globals_read(reads.__code__) == []


@pytest.mark.parametrize(
    ("value", "size"),
    [(bytes(MIB), MIB), ([bytes(MIB)] * 100, 100 * MIB), ({n: bytes(1000) for n in range(1000)}, 1_000_000)],
)
def test_sizes_are_near_the_truth(value, size):
    assert size <= size_of(value) <= 1.5 * size


def test_an_object_whose_attributes_raise_has_some_size():
    class Hostile:
        @property
        def nbytes(self) -> int:
            raise RuntimeError("no")

        def memory_usage(self, deep: bool) -> int:
            raise RuntimeError("no")

    assert size_of(Hostile()) > 0


def test_a_function_that_is_too_large_names_what_it_captures():
    weights = bytes(101_000_000)

    def predict() -> int:
        return len(weights)

    with pytest.raises(ValueError, match=r"It captures `weights` \(96 MiB\)"):
        functions.export(predict, SerializationContext({}))
