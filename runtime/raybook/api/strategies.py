"""Scheduling strategies: what users write, and the string of a scheduling class that it becomes.

It knows the grammar of ``SchedulingClass.strategy`` and nothing of nodes.
"""

from __future__ import annotations

import re
from typing import Any

DEFAULT = "DEFAULT"
SPREAD = "SPREAD"

_NODE_ID = re.compile(r"[0-9a-f]{16}")


class NodeAffinitySchedulingStrategy:
    """Run on the node with this id (hexadecimal, as ``nodes()`` shows it). soft: elsewhere if that node is gone."""

    def __init__(
        self, node_id: str, soft: bool, _spill_on_unavailable: bool = False, _fail_on_unavailable: bool = False
    ) -> None:
        if isinstance(node_id, bytes):
            node_id = node_id.hex()
        if not isinstance(node_id, str) or not _NODE_ID.fullmatch(node_id):
            raise ValueError(
                f"node_id must be the 16 hexadecimal digits of a node, as raybook.nodes() shows them, got {node_id!r}."
            )
        if not isinstance(soft, bool):
            raise TypeError(f"soft must be True or False, got {soft!r}.")
        if _spill_on_unavailable or _fail_on_unavailable:
            raise ValueError(
                "_spill_on_unavailable and _fail_on_unavailable come with a later version of raybook. Use soft=True to "
                "let a task run elsewhere."
            )
        self.node_id = node_id
        self.soft = soft

    def __repr__(self) -> str:
        return f"NodeAffinitySchedulingStrategy(node_id={self.node_id!r}, soft={self.soft})"


def encode(strategy: Any) -> str:
    """The string form: "", "spread", "node:<hex>" or "node:<hex>:soft". ValueError for anything else."""
    if strategy is None or strategy == DEFAULT:
        return ""
    if strategy == SPREAD:
        return "spread"
    if isinstance(strategy, NodeAffinitySchedulingStrategy):
        return f"node:{strategy.node_id}:soft" if strategy.soft else f"node:{strategy.node_id}"
    raise ValueError(
        f"scheduling_strategy must be 'DEFAULT', 'SPREAD' or a NodeAffinitySchedulingStrategy, got {strategy!r}. "
        "Placement groups and label strategies come with a later version of raybook."
    )
