"""Local resources: amounts, GPU instances, CPUs of the waiting."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raybook.base.resources import UNIT, shape_of
from raybook.core.node.local_resources import LocalResources


def node(**amounts: float) -> LocalResources:
    return LocalResources(shape_of(amounts))


def test_what_is_allocated_is_missing_until_it_is_released():
    resources = node(CPU=2, memory=1000)
    assignment = resources.allocate(1, shape_of({"CPU": 1.5, "memory": 600}))
    assert assignment.resources == {"CPU": 15_000, "memory": 600}
    assert resources.available == {"CPU": 5_000, "memory": 400}
    assert resources.allocate(2, shape_of({"memory": 500})) is None
    resources.release(1)
    assert resources.available == resources.total


def test_a_request_is_served_whole_or_not_at_all():
    resources = node(CPU=1, GPU=1)
    assert resources.allocate(1, shape_of({"CPU": 1, "GPU": 2})) is None
    assert resources.available == resources.total


def test_tenths_add_up_exactly():
    resources = node(CPU=1)
    for key in range(10):
        assert resources.allocate(key, shape_of({"CPU": 0.1})) is not None
    assert resources.available["CPU"] == 0


def test_fractions_are_packed_on_one_gpu_so_that_the_other_stays_whole():
    resources = node(GPU=2)
    first = resources.allocate(1, shape_of({"GPU": 0.3}))
    second = resources.allocate(2, shape_of({"GPU": 0.7}))
    assert first.instances == {"GPU": [[0, 3_000]]}
    assert second.instances == {"GPU": [[0, 7_000]]}
    assert resources.allocate(3, shape_of({"GPU": 1})).instances == {"GPU": [[1, UNIT]]}


def test_a_whole_gpu_is_never_made_of_two_halves():
    resources = node(GPU=2)
    resources.allocate(1, shape_of({"GPU": 0.6}))
    resources.allocate(2, shape_of({"GPU": 0.6}))
    assert resources.available["GPU"] == 8_000
    assert resources.allocate(3, shape_of({"GPU": 0.8})) is None
    assert resources.allocate(4, shape_of({"GPU": 0.4})) is not None


def test_several_gpus_are_different_devices_with_the_drivers_names():
    resources = LocalResources(shape_of({"GPU": 3}), gpu_ids=[5, 2, 7])
    assert resources.allocate(1, shape_of({"GPU": 2})).instances == {"GPU": [[5, UNIT], [2, UNIT]]}
    assert resources.allocate(2, shape_of({"GPU": 1})).instances == {"GPU": [[7, UNIT]]}


def test_one_and_a_half_gpus_can_never_be_served():
    resources = node(GPU=4)
    assert resources.missing_for_ever(shape_of({"GPU": 1.5})) == {"GPU": 5_000}
    assert resources.allocate(1, shape_of({"GPU": 1.5})) is None


def test_more_gpus_than_names_is_an_error():
    with pytest.raises(ValueError, match="2 GPUs"):
        LocalResources(shape_of({"GPU": 2}), gpu_ids=[0])


def test_who_waits_lends_its_cpu_but_not_its_gpu_or_memory():
    resources = node(CPU=1, GPU=1, memory=100)
    resources.allocate(1, shape_of({"CPU": 1, "GPU": 1, "memory": 100}))
    assert resources.block_cpu(1)
    assert not resources.block_cpu(1)
    assert resources.available == {"CPU": 10_000, "GPU": 0, "memory": 0}


def test_who_continues_takes_its_cpu_at_once_even_below_zero():
    resources = node(CPU=1)
    resources.allocate(1, shape_of({"CPU": 1}))
    resources.block_cpu(1)
    resources.allocate(2, shape_of({"CPU": 1}))
    assert resources.unblock_cpu(1)
    assert resources.available["CPU"] == -10_000
    resources.check_invariants()
    assert resources.allocate(3, shape_of({"CPU": 0.1})) is None
    resources.release(2)
    assert resources.available["CPU"] == 0


def test_releasing_who_waits_does_not_free_its_cpu_twice():
    resources = node(CPU=1)
    resources.allocate(1, shape_of({"CPU": 1}))
    resources.block_cpu(1)
    resources.release(1)
    assert resources.available == resources.total
    resources.check_invariants()


def test_shrinking_keeps_the_gpu_and_gives_the_cpu():
    resources = node(CPU=1, GPU=1)
    resources.allocate(1, shape_of({"CPU": 1, "GPU": 0.5}))
    resources.shrink(1, shape_of({"GPU": 0.5}))
    assert resources.available == {"CPU": 10_000, "GPU": 5_000}
    resources.check_invariants()
    resources.release(1)
    assert resources.available == resources.total


def test_shrinking_who_waits_gives_its_cpu_once():
    resources = node(CPU=1)
    resources.allocate(1, shape_of({"CPU": 1}))
    resources.block_cpu(1)
    resources.shrink(1, {})
    assert resources.available == resources.total
    assert resources.unblock_cpu(1)
    assert resources.available == resources.total
    resources.check_invariants()


amounts = st.fixed_dictionaries(
    {},
    optional={
        "CPU": st.integers(1, 30_000),
        "GPU": st.one_of(st.integers(1, 10_000), st.sampled_from([20_000, 30_000])),
        "memory": st.integers(1, 1_000),
        "special": st.integers(1, 20_000),
    },
)
steps = st.lists(
    st.tuples(st.sampled_from(["allocate", "release", "block", "unblock", "shrink"]), st.integers(0, 5), amounts),
    max_size=40,
)


@settings(max_examples=200, deadline=None)
@given(steps)
def test_books_balance_whatever_is_allocated_released_blocked_and_shrunk(plan):
    resources = LocalResources({"CPU": 40_000, "GPU": 30_000, "memory": 1_500, "special": 20_000})
    held: dict[int, dict] = {}
    for verb, key, shape in plan:
        if verb == "allocate" and key not in held:
            before = dict(resources.available)
            assignment = resources.allocate(key, shape)
            if assignment is None:
                assert resources.available == before
            else:
                assert all(before[name] >= amount for name, amount in shape.items())
                held[key] = shape
                given_gpus = sum(amount for _, amount in assignment.instances.get("GPU", []))
                assert given_gpus == shape.get("GPU", 0)
        elif verb == "release":
            resources.release(key)
            held.pop(key, None)
        elif verb == "block":
            resources.block_cpu(key)
        elif verb == "unblock":
            resources.unblock_cpu(key)
        elif verb == "shrink" and key in held:
            kept = {name: amount for name, amount in resources.held(key).resources.items() if name == "GPU"}
            resources.shrink(key, kept)
        resources.check_invariants()
    for key in list(held):
        resources.release(key)
    assert resources.available == resources.total
