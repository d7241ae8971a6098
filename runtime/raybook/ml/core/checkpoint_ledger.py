"""Checkpoint ledger: decides which checkpoints of one trial or one training run are kept.

Knows names and metrics of checkpoints; does not know where they lie or how they are deleted.
Invariants: the latest checkpoint is never given up (a restart needs it); with `num_to_keep` = n at most n
checkpoints remain, or n + 1 when the latest is not among the n best; a name is registered once.
Source: the keep-the-best rule of Ray's `CheckpointConfig`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from raybook.ml.core.metrics import WORST, has_metric, lookup, score


@dataclass(frozen=True)
class CheckpointEntry:
    """One checkpoint: its place in the order of saving, its folder's name and the metrics reported with it."""

    index: int
    name: str
    metrics: Mapping[str, Any]


class CheckpointLedger:
    """The checkpoints of one trial, oldest first, and the rule for how many of them stay."""

    def __init__(
        self, num_to_keep: int | None = None, score_attribute: str | None = None, score_order: str = "max"
    ) -> None:
        """num_to_keep: how many to keep, None for all. score_attribute: metric that ranks them, None for age."""
        self._num_to_keep = num_to_keep
        self._score_attribute = score_attribute
        self._score_order = score_order
        self._entries: list[CheckpointEntry] = []

    def register(self, name: str, metrics: Mapping[str, Any]) -> list[str]:
        """Note a new latest checkpoint; return the names that may now be deleted. Raises ValueError if known."""
        if any(entry.name == name for entry in self._entries):
            raise ValueError(f"Checkpoint {name!r} was registered before.")
        index = self._entries[-1].index + 1 if self._entries else 0
        self._entries.append(CheckpointEntry(index, name, metrics))
        if self._num_to_keep is None:
            return []
        ranked = sorted(self._entries, key=self._rank, reverse=True)
        surplus = [entry for entry in ranked[self._num_to_keep :] if entry is not self._entries[-1]]
        self._entries = [entry for entry in self._entries if entry not in surplus]
        return [entry.name for entry in sorted(surplus, key=lambda entry: entry.index)]

    def latest(self) -> CheckpointEntry | None:
        """Return the newest checkpoint, or None."""
        return self._entries[-1] if self._entries else None

    def entries(self) -> tuple[CheckpointEntry, ...]:
        """Return what is kept, oldest first."""
        return tuple(self._entries)

    def _rank(self, entry: CheckpointEntry) -> tuple[float, int]:
        if self._score_attribute is None:
            return (0.0, entry.index)
        if not has_metric(entry.metrics, self._score_attribute):
            return (WORST, entry.index)
        return (score(lookup(entry.metrics, self._score_attribute), self._score_order), entry.index)
