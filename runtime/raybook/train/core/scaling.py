"""Scaling: decides how many workers a group gets.

Knows amounts of resources by node; does not know nodes, groups or time.
Invariants: never fewer than the minimum nor more than the maximum; what one node lacks another one cannot lend.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

# Amounts are counted in ten-thousandths, as the scheduler does: three times 0.1 must fit into 0.3.
PRECISION = 10_000


def count_workers(nodes: Iterable[Mapping[str, float]], per_worker: Mapping[str, float], most: int) -> int:
    """Return how many workers fit into these nodes' resources, at most `most`."""
    wanted = {name: round(amount * PRECISION) for name, amount in per_worker.items() if amount > 0}
    if not wanted:
        return most
    total = 0
    for node in nodes:
        total += min(round(node.get(name, 0.0) * PRECISION) // amount for name, amount in wanted.items())
    return min(total, most)


def size_to_start(possible: int, fewest: int, most: int) -> int | None:
    """Return how many workers to start with, None to wait. A fixed size (fewest = most) is always asked for in full:
    whoever places it waits for room."""
    if fewest == most:
        return most
    return min(possible, most) if possible >= max(fewest, 1) else None


def size_to_change_to(running: int, possible: int, fewest: int, most: int) -> int | None:
    """Return the size that a healthy elastic group should take, None to leave it."""
    target = min(possible, most)
    return target if target != running and target >= max(fewest, 1) else None


def shortage(
    total: Mapping[str, float], per_worker: Mapping[str, float], workers: int
) -> dict[str, tuple[float, float]]:
    """Return what a whole cluster of these totals lacks for so many workers: {name: (asked, there)}."""
    return {
        name: (amount * workers, total.get(name, 0.0))
        for name, amount in per_worker.items()
        if amount > 0 and round(amount * workers * PRECISION) > round(total.get(name, 0.0) * PRECISION)
    }
