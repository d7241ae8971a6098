"""Checkpoint book: decides which checkpoints of a training run are kept, and which is the latest and the best.

Knows names, metrics and whether a validation is still out; does not know where checkpoints lie or how they are deleted.
Invariants: the latest checkpoint is never given up (a restart needs it), nor is one whose validation is out; otherwise
at most `num_to_keep` stay, so at most one more than that when the latest is not among the best; what was given up is out
of `to_record` before anyone deletes it.
Source: the keep-the-best rule of Ray's `CheckpointConfig`; the statuses are those of its `ReportedCheckpoint`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from raybook.ml.core.metrics import WORST, has_metric, lookup, score

COMMITTED = "COMMITTED"
PENDING_VALIDATION = "PENDING_VALIDATION"
VALIDATED = "VALIDATED"
VALIDATION_TIMEOUT = "VALIDATION_TIMEOUT"
VALIDATION_FAILED = "VALIDATION_FAILED"
STATUSES = (COMMITTED, PENDING_VALIDATION, VALIDATED, VALIDATION_TIMEOUT, VALIDATION_FAILED)

RECORD_VERSION = 1


@dataclass
class SavedCheckpoint:
    """One checkpoint. index: the number of its report in the run. name: its folder under the run's."""

    index: int
    name: str
    metrics: dict[str, Any] = field(default_factory=dict)
    status: str = COMMITTED


class CheckpointBook:
    """The checkpoints of one run. reports: how many rounds of reports it has seen, those without checkpoint included."""

    def __init__(
        self, num_to_keep: int | None = None, score_attribute: str | None = None, score_order: str = "max"
    ) -> None:
        """num_to_keep: how many to keep, None for all. score_attribute: metric that ranks them, None for age."""
        self._num_to_keep = num_to_keep
        self._score_attribute = score_attribute
        self._score_order = score_order
        self._saved: list[SavedCheckpoint] = []
        self.reports = 0
        self.last_metrics: dict[str, Any] | None = None

    def reported(self, metrics: Mapping[str, Any]) -> None:
        """Note a round of reports without a checkpoint."""
        self.reports += 1
        self.last_metrics = dict(metrics)

    def register(self, name: str, metrics: Mapping[str, Any], is_pending: bool = False) -> list[str]:
        """Note a round of reports with a checkpoint, the latest one now; return the names that are given up.

        is_pending: a validation of it is out. A name that is there already was written anew and moves to the end.
        """
        self.reported(metrics)
        self._saved = [entry for entry in self._saved if entry.name != name]
        status = PENDING_VALIDATION if is_pending else COMMITTED
        self._saved.append(SavedCheckpoint(self.reports, name, dict(metrics), status))
        return self._trim()

    def validated(self, name: str, status: str, metrics: Mapping[str, Any]) -> list[str]:
        """Note how the validation of a checkpoint ended; its metrics join the report's. Return names given up."""
        for entry in self._saved:
            if entry.name == name and entry.status == PENDING_VALIDATION:
                entry.status = status
                entry.metrics.update(metrics)
        return self._trim()

    def latest(self) -> SavedCheckpoint | None:
        """Return the newest checkpoint, or None."""
        return self._saved[-1] if self._saved else None

    def entries(self) -> list[SavedCheckpoint]:
        """Return what is kept, oldest first."""
        return list(self._saved)

    def ranked(self) -> list[SavedCheckpoint]:
        """Return what is kept, worst first and best last; by age without a score."""
        return sorted(self._saved, key=self._rank)

    def pending(self) -> list[SavedCheckpoint]:
        """Return those whose validation is out, oldest first."""
        return [entry for entry in self._saved if entry.status == PENDING_VALIDATION]

    def to_record(self) -> dict[str, Any]:
        """Return the book as plain values, for a file."""
        return {
            "version": RECORD_VERSION,
            "reports": self.reports,
            "last_metrics": self.last_metrics,
            "score": [self._score_attribute, self._score_order],
            "checkpoints": [
                {"index": entry.index, "name": entry.name, "metrics": entry.metrics, "status": entry.status}
                for entry in self._saved
            ],
        }

    def score_as(self, record: Mapping[str, Any]) -> None:
        """Rank checkpoints as the run did that made the record, for who only reads it."""
        self._score_attribute, self._score_order = record["score"]

    def load(self, record: Mapping[str, Any]) -> None:
        """Take over what `to_record` gave. Raises ValueError for a record of another version or shape."""
        if record.get("version") != RECORD_VERSION:
            raise ValueError(f"version {record.get('version')!r} of a checkpoint record, not {RECORD_VERSION}")
        try:
            self._saved = [
                SavedCheckpoint(int(row["index"]), str(row["name"]), dict(row["metrics"]), str(row["status"]))
                for row in record["checkpoints"]
            ]
            self.reports = int(record["reports"])
            self.last_metrics = record["last_metrics"]
        except (KeyError, TypeError) as error:
            raise ValueError(f"a checkpoint record without {error}") from error

    def _trim(self) -> list[str]:
        if self._num_to_keep is None:
            return []
        surplus = [
            entry
            for entry in self.ranked()[: -self._num_to_keep]
            if entry is not self._saved[-1] and entry.status != PENDING_VALIDATION
        ]
        self._saved = [entry for entry in self._saved if entry not in surplus]
        return [entry.name for entry in surplus]

    def _rank(self, entry: SavedCheckpoint) -> tuple[float, int]:
        if self._score_attribute is None:
            return (0.0, entry.index)
        if not has_metric(entry.metrics, self._score_attribute):
            return (WORST, entry.index)
        return (score(lookup(entry.metrics, self._score_attribute), self._score_order), entry.index)
