"""Collectives: what tensors hold after each operation, how members find one another, and how a group fails."""

from __future__ import annotations

import importlib.util

import numpy as np
import pytest

import raybook as ray
from raybook.util import collective
from raybook.util.collective.types import Backend, ReduceOp

# Slow: three processes load torch.
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(importlib.util.find_spec("torch") is None, reason="torch is not installed"),
    pytest.mark.usefixtures("four_cpus"),
]


@pytest.fixture(scope="module")
def make_members(four_cpus):
    """Makes actors that may become members of groups."""

    @ray.remote(num_cpus=0.1)
    class Member:
        def join(self, world_size, rank, group="default", timeout_ms=20_000):
            collective.init_collective_group(world_size, rank, "gloo", group, timeout_ms)
            return collective.get_rank(group), collective.get_collective_group_size(group)

        def run(self, name, *args, **kwargs):
            """Call an operation; its arguments, as it has left them."""
            getattr(collective, name)(*args, **kwargs)
            return args

        def run_on(self, make, name, *args, **kwargs):
            """The same with a tensor that is made here."""
            tensor = make()
            getattr(collective, name)(tensor, *args, **kwargs)
            return tensor

        def ask(self, name, *args):
            return getattr(collective, name)(*args)

        def leave(self, group="default"):
            collective.destroy_collective_group(group)
            return collective.is_group_initialized(group)

    return lambda count: [Member.remote() for _ in range(count)]


@pytest.fixture(scope="module")
def trio(make_members):
    """Three that have loaded torch, which takes a second, and that every test leaves alive."""
    return make_members(3)


@pytest.fixture(scope="module")
def pair(trio):
    """Two members of the group "pair"."""
    members = trio[:2]
    assert ray.get([m.join.remote(2, rank, "pair") for rank, m in enumerate(members)]) == [(0, 2), (1, 2)]
    return members


def array(*values):
    return np.array(values, dtype=np.float32)


def both_made(pair, name, arrays, *args, **kwargs):
    """Run an operation at both, with tensors made there, which are theirs to write; what it has left in them."""
    calls = [
        m.run_on.remote(lambda values=values: values.copy(), name, *args, group_name="pair", **kwargs)
        for m, values in zip(pair, arrays, strict=True)
    ]
    return [(tensor,) for tensor in ray.get(calls)]


@pytest.mark.parametrize(
    ("op", "expected"),
    [(ReduceOp.SUM, [11, 22]), (ReduceOp.PRODUCT, [10, 40]), (ReduceOp.MIN, [1, 2]), (ReduceOp.MAX, [10, 20])],
)
def test_allreduce_leaves_the_reduction_at_every_rank(pair, op, expected):
    (one,), (two,) = both_made(pair, "allreduce", [array(1, 2), array(10, 20)], op=op)
    assert one.tolist() == two.tolist() == expected


def test_reduce_changes_the_destination_only(pair):
    (one,), (two,) = both_made(pair, "reduce", [array(1, 2), array(10, 20)], 1)
    assert one.tolist() == [1, 2] and two.tolist() == [11, 22]


def test_broadcast_gives_everybody_the_sources_tensor(pair):
    (one,), (two,) = both_made(pair, "broadcast", [array(1, 2), array(10, 20)], 1)
    assert one.tolist() == two.tolist() == [10, 20]


def test_torch_tensors_are_changed_in_place_too(pair):
    def make():
        import torch

        return torch.ones(2, 3, dtype=torch.int64).t()

    one, two = ray.get([m.run_on.remote(make, "allreduce", group_name="pair") for m in pair])
    assert one.tolist() == two.tolist() == [[2, 2]] * 3


def test_arrays_with_gaps_between_their_elements_are_filled_rightly(pair):
    def make():
        return np.arange(8, dtype=np.float64)[::2]

    one, two = ray.get([m.run_on.remote(make, "allreduce", group_name="pair") for m in pair])
    assert one.tolist() == two.tolist() == [0, 4, 8, 12]


@pytest.fixture(scope="module")
def lists(pair):
    """Operations on lists of arrays, which have to be made at the members."""

    def gather(rank):
        outputs = [np.zeros(2), np.zeros(2)]
        collective.allgather(outputs, np.full(2, rank + 1.0), "pair")
        return [output.tolist() for output in outputs]

    def scatter(rank):
        output, parts = np.zeros(2), [np.full(2, rank + 1.0), np.full(2, 10.0 * (rank + 1))]
        collective.reducescatter(output, parts, "pair")
        return output.tolist(), [part.tolist() for part in parts]

    def message(rank):
        tensor = np.full(3, float(rank))
        if rank == 0:
            collective.send(np.array([7.0, 8.0, 9.0]), 1, "pair")
        else:
            collective.recv(tensor, 0, "pair")
        return tensor.tolist()

    return {"allgather": gather, "reducescatter": scatter, "send": message}


def at_both(pair, function):
    return ray.get([m.__ray_call__.remote(lambda self, rank=rank: function(rank)) for rank, m in enumerate(pair)])


def test_allgather_collects_every_ranks_tensor_in_order(pair, lists):
    assert at_both(pair, lists["allgather"]) == [[[1, 1], [2, 2]]] * 2


def test_reducescatter_gives_each_rank_its_part_and_leaves_the_inputs(pair, lists):
    first, second = at_both(pair, lists["reducescatter"])
    assert first == ([3, 3], [[1, 1], [10, 10]])
    assert second == ([30, 30], [[2, 2], [20, 20]])


def test_a_message_goes_from_one_rank_to_another(pair, lists):
    assert at_both(pair, lists["send"]) == [[0, 0, 0], [7, 8, 9]]


def test_nobody_passes_a_barrier_alone(pair):
    first = pair[0].run.remote("barrier", "pair")
    assert ray.wait([first], timeout=0.1) == ([], [first])
    ray.get([first, pair[1].run.remote("barrier", "pair")])


def test_groups_of_different_members_live_side_by_side(trio):
    members = trio
    ray.get([m.join.remote(3, rank, "all") for rank, m in enumerate(members)])
    ray.get([m.join.remote(2, rank, "some") for rank, m in enumerate(reversed(members[1:]))])
    assert ray.get([m.ask.remote("get_rank", "some") for m in members]) == [-1, 1, 0]
    sums = ray.get([m.run_on.remote(lambda: np.ones(1), "allreduce", "all") for m in members])
    assert [value.tolist() for value in sums] == [[3]] * 3
    sums = ray.get([m.run_on.remote(lambda: np.ones(1), "allreduce", "some") for m in members[1:]])
    assert [value.tolist() for value in sums] == [[2]] * 2


def test_a_group_can_be_left_and_made_anew(trio):
    members = trio[:2]
    for _ in range(2):
        ray.get([m.join.remote(2, rank, "again") for rank, m in enumerate(members)])
        assert ray.get([m.leave.remote("again") for m in members]) == [False, False]


def test_a_declared_group_is_joined_at_the_first_operation(trio):
    members = trio[:2]
    collective.create_collective_group(members, 2, [1, 0], "torch_gloo", "declared")
    with pytest.raises(RuntimeError, match="initialize a group twice"):
        collective.create_collective_group(members, 2, [1, 0], "gloo", "declared")
    sums = ray.get([m.run_on.remote(lambda: np.ones(1), "allreduce", "declared") for m in members])
    assert [value.tolist() for value in sums] == [[2], [2]]
    assert ray.get([m.ask.remote("get_rank", "declared") for m in members]) == [1, 0]
    with pytest.raises(RuntimeError, match="not initialized in the process"):
        ray.get(trio[2].run.remote("barrier", "declared"))


def test_a_declaration_whose_actors_have_died_does_not_stand_in_the_way(make_members, eventually):
    members = make_members(1)
    collective.create_collective_group(members, 1, [0], "gloo", "left-over")
    ray.kill(members[0])

    def is_free() -> bool:
        try:
            collective.create_collective_group(make_members(1), 1, [0], "gloo", "left-over")
        except RuntimeError:
            return False
        return True

    eventually(is_free)


# Failures


def test_a_member_that_dies_fails_the_others_and_the_group_is_of_no_use_then(make_members):
    members = make_members(2)
    ray.get([m.join.remote(2, rank, "mortal") for rank, m in enumerate(members)])
    waiting = members[0].run.remote("barrier", "mortal")
    ray.kill(members[1])
    with pytest.raises(RuntimeError, match="barrier failed at rank 0 of 2 .* 'mortal': a member died"):
        ray.get(waiting)
    with pytest.raises(RuntimeError, match="failed before .* make it anew"):
        ray.get(members[0].run.remote("barrier", "mortal"))


def test_a_member_that_does_not_take_part_is_given_up_on(trio):
    members = trio[:2]
    ray.get([m.join.remote(2, rank, "slow", 1000) for rank, m in enumerate(members)])
    with pytest.raises(RuntimeError, match="did not take part within 1000 ms"):
        ray.get(members[0].run.remote("barrier", "slow"))


def test_members_that_do_not_come_are_named(trio):
    first, second, _ = trio
    with pytest.raises(TimeoutError, match="waited 300 ms for ranks \\[1, 2\\] of 3"):
        ray.get(first.join.remote(3, 0, "absent", 300))
    with pytest.raises(TimeoutError, match="Rank 0 .* did not come"):
        ray.get(second.join.remote(2, 1, "headless", 100))


def test_members_that_disagree_on_the_world_size_are_told_at_once(trio):
    members = trio[:2]
    refs = [m.join.remote(2 + rank, rank, "disagree") for rank, m in enumerate(members)]
    for ref in refs:
        with pytest.raises(ValueError, match="rank 0 says 2, another one says 3"):
            ray.get(ref)


def test_two_members_with_one_rank_are_told_at_once(trio):
    members = trio
    refs = [m.join.remote(3, rank, "twins") for m, rank in zip(members, (0, 1, 1), strict=True)]
    for ref in refs:
        with pytest.raises(ValueError, match="Two processes claim rank 1"):
            ray.get(ref)


def test_a_read_only_array_cannot_take_a_result(pair):
    def make():
        values = np.ones(2)
        values.flags.writeable = False
        return values

    with pytest.raises(ValueError, match="read-only.*array.copy"):
        ray.get(pair[0].run_on.remote(make, "allreduce", "pair"))


@pytest.mark.parametrize(
    ("name", "args", "error", "text"),
    [
        ("send", (array(1), 0), RuntimeError, "is self"),
        ("recv", (array(1), 5), ValueError, "must be less than world size"),
        ("broadcast", (array(1), -1), ValueError, "is negative"),
        ("allreduce", ([1, 2],), RuntimeError, "Unrecognized tensor type"),
        ("allgather", ([array(1)], array(1)), RuntimeError, "must be equal to world_size"),
        ("allgather", ([], array(1)), RuntimeError, "empty list"),
        ("allreduce_multigpu", ([array(1)],), RuntimeError, "Give each GPU an actor"),
    ],
)
def test_what_cannot_be_meant_is_refused(pair, name, args, error, text):
    with pytest.raises(error, match=text):
        ray.get(pair[0].run.remote(name, *args, group_name="pair"))


def test_joining_twice_and_from_outside_is_refused(pair):
    with pytest.raises(RuntimeError, match="a second time"):
        ray.get(pair[0].join.remote(2, 0, "pair"))
    with pytest.raises(RuntimeError, match="only used inside a Ray actor or task"):
        collective.init_collective_group(1, 0, "gloo")
    with pytest.raises(ValueError, match="ranks go from 0"):
        ray.get(pair[0].join.remote(2, 2, "other"))


def test_a_backend_that_cannot_work_here_says_what_it_needs(pair):
    if ray.get(pair[0].ask.remote("nccl_available")):
        pytest.skip("there is a GPU here")
    with pytest.raises(RuntimeError, match="NCCL is registered but not available: it needs torch with CUDA"):
        ray.get(pair[0].ask.remote("init_collective_group", 1, 0, "nccl", "gpus"))


def test_names_of_backends_are_read_in_any_case():
    assert Backend("gloo") == Backend("torch_gloo") == Backend.GLOO and Backend("nccl") == Backend.NCCL
    with pytest.raises(ValueError, match="Unrecognized backend"):
        Backend("mpi")


def test_users_may_bring_a_backend_of_their_own(trio):
    def use(self):
        from raybook.util.collective.collective_group.base_collective_group import BaseGroup

        class Counting(BaseGroup):
            reduced = 0

            @classmethod
            def check_backend_availability(cls):
                return True

            def allreduce(self, tensor, allreduce_options):
                tensor[0] += 1

            barrier = reduce = allgather = broadcast = reducescatter = send = recv = None

        collective.register_collective_backend("counting", Counting)
        collective.init_collective_group(1, 0, "counting", "mine")
        tensor = np.zeros(1)
        collective.allreduce(tensor, "mine")
        return tensor.tolist(), collective.is_backend_available("counting")

    assert ray.get(trio[0].__ray_call__.remote(use)) == ([1], True)
