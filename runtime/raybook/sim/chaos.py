"""Chaos: the kills of a seed, as data. A real cluster is given them (``tests/many_nodes/chaos.py``) and a simulated one
(``python -m raybook.sim --chaos 7``): same seed, same kinds at the same moments, and the same victims by number.

    kill N     a worker: of the living nodes number N modulo their count, of its workers number N // count modulo theirs
    node N     the same node number with everything on it; another one joins
    gcs D      the GCS, which is back after D milliseconds
Nodes are numbered in the order in which they joined, the head's is none of them. Knows nothing of clusters.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import TypeVar

from raybook.sim.faults import Fault, Schedule

EVERY_MS = {"kill": 700, "node": 7_000, "gcs": 12_000}
"""Half as often to one and a half times as often."""
GCS_AWAY_MS = (200, 600, 3_000)
ORDINALS = 1 << 16

Victim = TypeVar("Victim")


def draw_chaos(seed: int, seconds: float, kinds: Sequence[str] = ("kill", "node", "gcs")) -> Schedule:
    """The kills of so many seconds. Each kind is drawn for itself: leaving one out does not change the others."""
    faults = []
    for kind in kinds:
        rng = random.Random(f"{kind} {seed}")
        at_ms = EVERY_MS[kind] * rng.uniform(0.5, 1.5)
        while at_ms < 1000 * seconds:
            amount = rng.choice(GCS_AWAY_MS) if kind == "gcs" else rng.randrange(ORDINALS)
            faults.append(Fault(int(at_ms), kind, amount))
            at_ms += EVERY_MS[kind] * rng.uniform(0.5, 1.5)
    return tuple(sorted(faults))


def victim(ordinal: int, nodes: Sequence[Victim]) -> tuple[Victim, int]:
    """(the node that is meant, the number of its worker, to be taken modulo how many there are)."""
    number, index = divmod(ordinal, len(nodes))
    return nodes[index], number
