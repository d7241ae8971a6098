"""Reductions: what collective operations compute, for torch tensors and numpy arrays.

Invariant: the order of operations does not depend on who computes, so every actor gets the same bits.
"""

from __future__ import annotations

import operator
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Any

ALLREDUCE = "allreduce"
ALLGATHER = "allgather"
REDUCESCATTER = "reducescatter"


@dataclass(frozen=True)
class Collective:
    """One actor's part. op: SUM, PRODUCT, MAX, MIN or AVG. rank: which of ``size`` actors this is. lists: how many
    operations are done at once."""

    kind: str
    op: str
    rank: int
    size: int
    lists: int

    @property
    def name(self) -> str:
        """For people."""
        return self.kind if self.kind == ALLGATHER else f"{self.kind}.{self.op}"


def apply(collective: Collective, tensors: Sequence[Any]) -> Any:
    """The actor's result; a tuple of them for several lists. tensors: of every actor in turn, list after list. ValueError
    for shapes that do not go together."""
    size = collective.size
    results = tuple(_apply_one(collective, tensors[at : at + size]) for at in range(0, len(tensors), size))
    return results[0] if collective.lists == 1 else results


def _apply_one(collective: Collective, tensors: Sequence[Any]) -> Any:
    shapes = [tuple(getattr(tensor, "shape", ())) for tensor in tensors]
    if not all(hasattr(tensor, "shape") for tensor in tensors):
        kinds = sorted({type(tensor).__name__ for tensor in tensors})
        raise ValueError(f"{collective.kind} takes torch tensors or numpy arrays, got {', '.join(kinds)}.")
    if collective.kind == ALLGATHER:
        return _concatenated(tensors)
    if len(set(shapes)) != 1:
        raise ValueError(f"{collective.kind} takes tensors of one shape, got {shapes}.")
    if collective.kind == ALLREDUCE:
        return _reduced(collective.op, tensors)
    rows = shapes[0][0] if shapes[0] else 0
    if not rows or rows % collective.size:
        raise ValueError(
            f"reducescatter gives each of {collective.size} actors as many rows: the first dimension of {shapes[0]} must "
            "be divisible by their number."
        )
    each = rows // collective.size
    return _reduced(
        collective.op, [tensor[collective.rank * each : (collective.rank + 1) * each] for tensor in tensors]
    )


def _reduced(op: str, tensors: Sequence[Any]) -> Any:
    if op == "AVG":
        return reduce(operator.add, tensors) / len(tensors)
    if len(tensors) == 1:
        return tensors[0]
    return reduce(_operation(op, tensors[0]), tensors)


def _operation(op: str, example: Any) -> Callable[[Any, Any], Any]:
    if op == "SUM":
        return operator.add
    if op == "PRODUCT":
        return operator.mul
    library = _library_of(example)
    return library.maximum if op == "MAX" else library.minimum


def _concatenated(tensors: Sequence[Any]) -> Any:
    library = _library_of(tensors[0])
    return library.concatenate(list(tensors))


def _library_of(tensor: Any) -> Any:
    return sys.modules[type(tensor).__module__.partition(".")[0]]
