"""Ranks: decides which worker is which rank, from where each of them was placed.

Knows nodes and device ids; does not know actors.
Invariants: workers of one node have consecutive world ranks, lowest device first; local ranks start at 0 on each node;
node ranks follow the order in which nodes first appear, so that rank 0 is on the first worker's node.
Source: Ray's rule, which NCCL's and torch's launchers share.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec


class WorkerPlace(msgspec.Struct, frozen=True):
    """Where one worker runs. gpu_ids: the devices it was given, as text."""

    node_id: str
    node_ip: str
    hostname: str
    pid: int
    gpu_ids: tuple[str, ...] = ()


class Rank(msgspec.Struct, frozen=True):
    """One worker's numbers among its fellows. position: its place in the list that was ranked."""

    position: int
    world_rank: int
    world_size: int
    local_rank: int
    local_world_size: int
    node_rank: int


def assign_ranks(places: Sequence[WorkerPlace]) -> list[Rank]:
    """Return one Rank per place, in the order of world ranks. Cost: O(n log n)."""
    nodes: dict[str, list[int]] = {}
    for position, place in enumerate(places):
        nodes.setdefault(place.node_id, []).append(position)
    ranks: list[Rank] = []
    for node_rank, members in enumerate(nodes.values()):
        members.sort(key=lambda position: (_lowest_device(places[position]), position))
        for local_rank, position in enumerate(members):
            ranks.append(Rank(position, len(ranks), len(places), local_rank, len(members), node_rank))
    return ranks


def _lowest_device(place: WorkerPlace) -> tuple[int, str]:
    numbered = [int(text) for text in place.gpu_ids if text.isdigit()]
    if numbered:
        return min(numbered), ""
    return 0, min(place.gpu_ids, default="")
