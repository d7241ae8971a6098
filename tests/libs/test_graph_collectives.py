"""Collective operations between the actors of a graph, compiled and plain, over torch tensors and numpy arrays."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import raybook as ray
from raybook.dag import InputNode, MultiOutputNode
from raybook.dag.reductions import ALLREDUCE, Collective, apply
from raybook.experimental.collective import ReduceOp, allgather, allreduce, reducescatter

torch = pytest.importorskip("torch")


@pytest.fixture(scope="module")
def actors() -> Iterator[list[Any]]:
    ray.init(num_cpus=3)

    @ray.remote
    class Rank:
        def __init__(self, rank):
            self.rank = rank

        def tensor(self, x):
            return torch.arange(6, dtype=torch.float32).reshape(3, 2) * x + self.rank

        def array(self, x):
            return np.arange(4000, dtype=np.float64) + x * self.rank

        def uneven(self, x):
            return torch.zeros(self.rank + 1)

    yield [Rank.remote(rank) for rank in range(3)]
    ray.shutdown()


def both_ways(dag: Any, *inputs: Any) -> list[Any]:
    """The results of the plain run and of the compiled one, which must be the same."""
    plain = [ray.get(dag.execute(x)) for x in inputs]
    graph = dag.experimental_compile()
    compiled = [ray.get(graph.execute(x)) for x in inputs]
    graph.teardown()
    for one, other in zip(plain, compiled, strict=True):
        assert all(np.array_equal(np.asarray(a), np.asarray(b)) for a, b in zip(one, other, strict=True))
    return compiled


@pytest.mark.slow
@pytest.mark.parametrize("op", list(ReduceOp))
def test_every_actor_gets_the_reduction_of_all(actors, op) -> None:
    with InputNode() as inp:
        dag = MultiOutputNode(allreduce.bind([actor.tensor.bind(inp) for actor in actors], op))
    tensors = [torch.arange(6, dtype=torch.float32).reshape(3, 2) * 2 + rank for rank in range(3)]
    stacked = torch.stack(tensors)
    expected = {
        "SUM": stacked.sum(0), "PRODUCT": stacked.prod(0), "MAX": stacked.amax(0), "MIN": stacked.amin(0),
        "AVG": stacked.mean(0),
    }[op.name]  # fmt: skip
    (results,) = both_ways(dag, 2)
    assert len(results) == 3 and all(torch.equal(result, expected) for result in results)


def test_large_arrays_are_reduced_gathered_and_scattered(actors) -> None:
    with InputNode() as inp:
        parts = [actor.array.bind(inp) for actor in actors[:2]]
        dag = MultiOutputNode([*allreduce.bind(parts), *allgather.bind(parts), *reducescatter.bind(parts)])
    for x, result in zip((1, 5), both_ways(dag, 1, 5), strict=True):
        one, two = np.arange(4000.0), np.arange(4000.0) + x
        assert np.array_equal(result[0], one + two) and np.array_equal(result[1], one + two)
        assert np.array_equal(result[2], np.concatenate([one, two]))
        assert np.array_equal(result[4], (one + two)[:2000]) and np.array_equal(result[5], (one + two)[2000:])


def test_several_lists_are_reduced_at_once(actors) -> None:
    with InputNode() as inp:
        ones = [actor.tensor.bind(inp) for actor in actors]
        twos = [actor.array.bind(inp) for actor in actors]
        results = allreduce.bind([ones, twos])
        dag = MultiOutputNode([value for values in results for value in values])
    (values,) = both_ways(dag, 1)
    assert values[0].shape == (3, 2) and values[1].shape == (4000,) and values[1][0] == 3.0


def test_tensors_that_do_not_go_together_are_an_error_and_the_graph_goes_on(actors) -> None:
    with InputNode() as inp:
        graph = MultiOutputNode(allreduce.bind([actor.uneven.bind(inp) for actor in actors])).experimental_compile()
    for _ in range(2):
        with pytest.raises(ValueError, match="takes tensors of one shape"):
            ray.get(graph.execute(1))
    graph.teardown()
    with pytest.raises(ValueError, match="takes torch tensors or numpy arrays"):
        apply(Collective(ALLREDUCE, "SUM", 0, 2, 1), [1, 2])


def test_inputs_that_are_no_results_of_different_actors_are_refused(actors) -> None:
    with InputNode() as inp:
        one, two = (actor.tensor.bind(inp) for actor in actors[:2])
        again = actors[0].tensor.bind(inp)
        for inputs, words in (
            ([], "non-empty input list"),
            ([one, 1], "to be DAGNode"),
            ([one, one], "unique input nodes"),
            ([one, again], "unique actor handles"),
            ([one, inp], "an actor handle"),
            ([[one, two], [one]], "same number of nodes"),
            ([[one, two], [two, one]], "same order"),
        ):
            with pytest.raises(ValueError, match=words):
                allreduce.bind(inputs)
        with pytest.raises(ValueError, match="Unexpected operation"):
            allreduce.bind([one, two], "sum")
        with pytest.raises(ValueError, match="only supported for allreduce"):
            allgather.bind([[one, two]])
        with pytest.raises(ValueError, match="CPU tensors"):
            allreduce.bind([one, two], transport="nccl")
