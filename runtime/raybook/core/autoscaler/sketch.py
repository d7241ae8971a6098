"""Sketch: nodes as a plan sees them, those that are there, those on their way, and those that the plan adds.

Lays shapes on nodes and can take everything back since a mark, because a placement group is placed whole or not at all.
Knows no types' bounds and no strategies. Invariant: nothing laid on a node exceeds what it had left.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import msgspec

from raybook.base.label_selector import matches
from raybook.base.resources import GPU, UNIT, Shape

Selectors = Sequence[Mapping[str, str]]
PLENTY = 1 << 30
"""Room of a node for what asks for nothing."""


class Place(msgspec.Struct, eq=False):
    """One node. node_id: b"" when it has not joined. is_new: the plan adds it. is_used: the plan lays something on it."""

    node_type: str
    total: Shape
    left: Shape
    labels: Mapping[str, str]
    node_id: bytes = b""
    instance: Any = None
    is_new: bool = False
    is_used: bool = False

    def how_many(self, shape: Mapping[str, int]) -> int:
        """How many of a shape find room together."""
        return how_many(self.left, shape)


def how_many(left: Mapping[str, int], shape: Mapping[str, int]) -> int:
    """How many of a shape fit into these amounts. Parts of GPUs lie on one device each, and whole ones do not share."""
    fitting = PLENTY
    for name, amount in shape.items():
        if amount > 0:
            free = left.get(name, 0)
            if name == GPU and amount < UNIT:
                count = (free // UNIT) * (UNIT // amount) + (free % UNIT) // amount
            else:
                count = free // amount
            fitting = min(fitting, count)
    return max(0, fitting)


class Sketch:
    """See the module. Places keep their order."""

    def __init__(self) -> None:
        self.places: list[Place] = []
        self._journal: list[tuple[Place, Shape, bool]] = []

    def __iter__(self) -> Iterator[Place]:
        return iter(self.places)

    def add(self, place: Place) -> Place:
        self.places.append(place)
        return place

    def lay(self, place: Place, shape: Mapping[str, int], count: int = 1) -> None:
        """Something goes there."""
        before = {name: place.left.get(name, 0) for name in shape}
        self._journal.append((place, before, place.is_used))
        for name, amount in shape.items():
            place.left[name] = max(0, before[name] - amount * count)
        place.is_used = True

    def fill(self, shape: Mapping[str, int], count: int, selectors: Selectors) -> int:
        """Lay so many of a shape on what is there, on nodes that meet all selectors; how many found no room. A node whose
        GPUs the shape does not ask for comes last. Cost: a look at each node."""
        if count > 0:
            for place in self._cheapest_first(shape):
                fitting = min(count, place.how_many(shape))
                if fitting and meets(selectors, place.labels):
                    self.lay(place, shape, fitting)
                    count -= fitting
                    if not count:
                        break
        return count

    def with_room(self, shape: Mapping[str, int], selectors: Selectors) -> list[Place]:
        """Every node that could take one more."""
        return [place for place in self.places if place.how_many(shape) and meets(selectors, place.labels)]

    def _cheapest_first(self, shape: Mapping[str, int]) -> list[Place]:
        if shape.get(GPU):
            return self.places
        plain = [place for place in self.places if not place.total.get(GPU)]
        return (
            self.places if len(plain) == len(self.places) else [*plain, *(p for p in self.places if p.total.get(GPU))]
        )

    # Taking back

    def mark(self) -> tuple[int, int]:
        """Where ``take_back`` returns to."""
        return len(self.places), len(self._journal)

    def take_back(self, mark: tuple[int, int]) -> None:
        """Everything since the mark has not happened."""
        places, steps = mark
        while len(self._journal) > steps:
            place, before, was_used = self._journal.pop()
            place.left.update(before)
            place.is_used = was_used
        del self.places[places:]


def meets(selectors: Selectors, labels: Mapping[str, str]) -> bool:
    """Whether labels meet all of these selectors."""
    return all(matches(selector, labels) for selector in selectors)
