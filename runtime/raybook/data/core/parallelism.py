"""How many blocks a read makes, where the user does not say."""

from __future__ import annotations

import math


def blocks_wanted(
    parallelism: int,
    size_bytes: int | None,
    cpus: float,
    target_bytes_max: int | None,
    target_bytes_min: int,
    most: int,
) -> int:
    """Blocks of a read. parallelism: the user's number, -1 for none. size_bytes: estimate of the whole, None if nobody
    knows.

    At least twice the CPUs, so that one slow block does not leave the others idle; enough that none is larger than half
    the target (two of them then still make one); no more than `most` for parallelism's sake, and none smaller than the
    least size on its account.
    """
    if parallelism > 0:
        return parallelism
    floor = max(1, 2 * int(cpus))
    if size_bytes is None:
        return max(floor, most)
    by_size = math.ceil(size_bytes / (target_bytes_max / 2)) if target_bytes_max else 1
    return max(floor, by_size)
