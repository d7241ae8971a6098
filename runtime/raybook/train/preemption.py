"""Preemption: what is known of nodes that will be taken away."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class PreemptionInfo:
    """Nodes of this run that are about to go.

    deadline_ms: the earliest deadline, in milliseconds since 1970, None where none was named. preempted_node_to_ranks:
    the world ranks on each of these nodes, by node id.
    """

    deadline_ms: int | None
    preempted_node_to_ranks: dict[str, list[int]]

    @property
    def preempted_node_ids(self) -> list[str]:
        """The nodes, sorted."""
        return sorted(self.preempted_node_to_ranks)

    @property
    def preempted_ranks(self) -> list[int]:
        """The ranks, sorted."""
        return sorted({rank for ranks in self.preempted_node_to_ranks.values() for rank in ranks})
