"""Collective operations between the actors of a graph: ``allreduce.bind([a.grad.bind(x), b.grad.bind(x)])``.

Tensors are torch's or numpy's, on the CPU. Each operation gives one node for each actor.
"""

from __future__ import annotations

from enum import Enum
from typing import Any

from raybook.dag.collective_node import bind_collective
from raybook.dag.reductions import ALLGATHER, ALLREDUCE, REDUCESCATTER


class ReduceOp(Enum):
    """How tensors become one."""

    SUM = 0
    PRODUCT = 1
    MAX = 2
    MIN = 3
    AVG = 4


class AllReduce:
    """Every actor gets the reduction of all tensors, which have one shape."""

    def bind(self, input_nodes: list[Any], op: ReduceOp = ReduceOp.SUM, transport: Any = None) -> list[Any]:
        """input_nodes: one result of each actor, or lists of such lists, reduced apart. ValueError for anything else."""
        return bind_collective(input_nodes, ALLREDUCE, _name(op), transport)


class AllGather:
    """Every actor gets all tensors, one after another along the first dimension."""

    def bind(self, input_nodes: list[Any], transport: Any = None) -> list[Any]:
        """input_nodes: one result of each actor. ValueError for anything else."""
        return bind_collective(input_nodes, ALLGATHER, "SUM", transport)


class ReduceScatter:
    """The n-th of N actors gets the n-th part of the reduction, along the first dimension, which N divides."""

    def bind(self, input_nodes: list[Any], op: ReduceOp = ReduceOp.SUM, transport: Any = None) -> list[Any]:
        """input_nodes: one result of each actor. ValueError for anything else."""
        return bind_collective(input_nodes, REDUCESCATTER, _name(op), transport)


def _name(op: Any) -> str:
    if not isinstance(op, ReduceOp):
        raise ValueError(f"Unexpected operation: {op}. It is a ReduceOp, such as ReduceOp.SUM.")
    return op.name


allreduce = AllReduce()
allgather = AllGather()
reducescatter = ReduceScatter()

__all__ = ["ReduceOp", "allgather", "allreduce", "reducescatter"]
