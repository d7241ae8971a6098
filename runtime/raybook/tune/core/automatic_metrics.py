"""Automatic metrics: what every result carries besides what the user reported, under Ray's names."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

AUTOMATIC_KEYS = frozenset(
    {
        "config",
        "date",
        "done",
        "hostname",
        "iterations_since_restore",
        "node_ip",
        "pid",
        "time_since_restore",
        "time_this_iter_s",
        "time_total_s",
        "timestamp",
        "training_iteration",
        "trial_id",
        "checkpoint_dir_name",
    }
)


def user_metrics(result: Mapping[str, Any]) -> dict[str, Any]:
    """Return the part of a result that the user reported."""
    return {key: value for key, value in result.items() if key not in AUTOMATIC_KEYS}
