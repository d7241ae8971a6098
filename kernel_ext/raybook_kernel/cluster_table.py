"""Cluster table: the registry as text, one line for each cluster, this kernel's marked."""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import Any

from raybook.observe import ClusterRecord, bytes_text, count_text, duration_text

ID_SHOWN = 12
MEMORY_NAMES = frozenset({"memory", "object_store_memory"})


def cluster_table(records: list[ClusterRecord], mine: str, now_ms: float | None = None) -> str:
    """mine: the cluster id of this kernel's, "" for none. now_ms: milliseconds since the epoch, default now."""
    if not records:
        return "No cluster is running. Start one: %ray_cluster start"
    now_ms = time.time() * 1_000 if now_ms is None else now_ms
    rows: list[tuple[str, ...]] = [("", "NAME", "RESOURCES", "UP", "LIVES WITH", "ADDRESS")]
    rows += [_row(record, record.cluster_id == mine, now_ms) for record in records]
    return _aligned(rows) + ("\n(* this kernel's)" if mine else "")


def node_table(nodes: Iterable[dict[str, Any]]) -> str:
    """nodes: as ``raybook.nodes()`` has them. Those that were lost are shown last, with why."""
    rows: list[tuple[str, ...]] = [("", "NODE", "ADDRESS", "FREE", "STATE")]
    for node in sorted(nodes, key=lambda node: not node["Alive"]):
        state = f"gone: {node['DeathReasonMessage']}" if not node["Alive"] else "alive"
        if node["DrainReason"]:
            state = f"leaving: {node['DrainReason']}"
        totals, free = node["Resources"], node["AvailableResources"]
        shown = {
            name: total for name, total in totals.items() if name not in MEMORY_NAMES and ":" not in name and total
        }
        amounts = ", ".join(
            f"{count_text(free.get(name, 0))}/{count_text(total)} {name}" for name, total in shown.items()
        )
        head = "head" if node["IsHeadNode"] else ""
        rows.append((head, node["NodeID"][:ID_SHOWN], node["NodeManagerAddress"], amounts or "–", state))
    return _aligned(rows)


def _aligned(rows: list[tuple[str, ...]]) -> str:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    return "\n".join(lines)


def _row(record: ClusterRecord, is_mine: bool, now_ms: float) -> tuple[str, ...]:
    owner = record.owner
    lives_with = "itself (--persist)" if owner is None else "this kernel" if is_mine else f"process {owner.pid}"
    age = duration_text(max(0.0, now_ms - record.created_unix_ms) * 1_000) if record.created_unix_ms else "–"
    return (
        "*" if is_mine else "",
        record.name or record.cluster_id,
        resources_text(record.resources),
        age,
        lives_with,
        record.node_socket or record.address,
    )


def resources_text(resources: dict[str, float]) -> str:
    """ "8 CPU, 1 GPU, 16.0 GiB memory"."""
    parts = []
    for name, amount in resources.items():
        if name == "object_store_memory" or not amount or name.startswith("node:"):
            continue
        parts.append(f"{bytes_text(amount) if name in MEMORY_NAMES else count_text(amount)} {name}")
    return ", ".join(parts)
