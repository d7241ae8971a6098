"""Arithmetic of positions: which rows of which block make a range of rows."""

from __future__ import annotations

from collections.abc import Sequence


def even_bounds(total: int, parts: int) -> list[int]:
    """parts + 1 bounds from 0 to total, the parts as even as can be, earlier ones the longer."""
    small, extra = divmod(total, parts)
    bounds = [0]
    for index in range(parts):
        bounds.append(bounds[-1] + small + (1 if index < extra else 0))
    return bounds


def pieces_of(counts: Sequence[int], start: int, end: int) -> list[tuple[int, int, int]]:
    """(block, offset, length) of the rows from start to end, of blocks with these counts; empty pieces are left out."""
    pieces = []
    before = 0
    for index, count in enumerate(counts):
        low, high = max(start, before), min(end, before + count)
        if low < high:
            pieces.append((index, low - before, high - low))
        before += count
        if before >= end:
            break
    return pieces


def equal_split_bounds(total: int, parts: int) -> list[int]:
    """Bounds of `parts` ranges of exactly the same length; what is left over is dropped."""
    size = total // parts
    return [index * size for index in range(parts + 1)]


def proportional_bounds(total: int, proportions: Sequence[float]) -> list[int]:
    """Bounds of ranges by proportions, with the rest as a last range; each range has at least one row where there are
    enough rows for that. ValueError when there are not."""
    cumulative = []
    reached = 0.0
    for share in proportions:
        reached += share
        cumulative.append(int(total * reached))
    indices = []
    lowest = 0
    for index, value in enumerate(cumulative):
        lowest = max(lowest + (1 if index else 1), value)
        indices.append(lowest)
    left = len(proportions)
    for index in reversed(range(left)):
        most = total - (left - index)
        if indices[index] > most:
            indices[index] = most
    if any(value <= 0 for value in indices) or total < left + 1:
        raise ValueError(
            f"Couldn't create non-empty splits of {total} rows with the proportions {list(proportions)}: there are not "
            "enough rows."
        )
    return [0, *indices, total]
