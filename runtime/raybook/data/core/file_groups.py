"""File groups: decides which files, or pieces of files, one read task reads.

Knows sizes, and nothing of formats. Invariants: groups keep the order of the pieces, no piece is lost or in two groups,
and no group is empty.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import TypeVar

Piece = TypeVar("Piece")


def group_by_size(pieces: Sequence[Piece], sizes: Sequence[int | None], groups_max: int) -> list[list[Piece]]:
    """Neighbouring pieces put together into at most `groups_max` groups of about the same size.

    sizes: bytes, None counts as the mean of the known ones. As many groups come out as there can be: with fewer pieces
    than groups, each is its own. Cost: O(pieces).
    """
    if len(pieces) != len(sizes):
        raise ValueError(f"{len(pieces)} pieces, but {len(sizes)} sizes")
    count = max(1, min(groups_max, len(pieces)))
    if not pieces:
        return []
    known = [size for size in sizes if size is not None]
    mean = max(1.0, sum(known) / len(known)) if known else 1.0
    # Empty files cost a look all the same: a hundredth of the mean keeps a million of them from being one group.
    weights = [max(mean if size is None else float(size), mean / 100) for size in sizes]
    total, done = sum(weights), 0.0
    groups: list[list[Piece]] = []
    current: list[Piece] = []
    for index, (piece, weight) in enumerate(zip(pieces, weights, strict=True)):
        left_pieces, left_groups = len(pieces) - index, count - len(groups)
        target = total * (len(groups) + 1) / count
        # Closed when the piece's middle lies beyond the group's end, or when the rest must be one group each.
        if current and left_groups > 1 and (done + weight / 2 > target or left_pieces < left_groups):
            groups.append(current)
            current = []
        current.append(piece)
        done += weight
    groups.append(current)
    return groups


def shuffled(pieces: Sequence[Piece], seed: int | None) -> list[Piece]:
    """The pieces in an order drawn with `seed`; None: a different one each time."""
    order = list(pieces)
    random.Random(seed).shuffle(order)
    return order
