"""Report rounds: puts the reports of all ranks together, one round for each call of `report`.

A round is over when the checkpoint of every rank that brought one is saved; rounds end in the order in which they were
begun, also when a later one's upload was quicker. Knows ranks, metrics and names; does not know files.
Invariants: a round ends once; the metrics of the lowest rank there stand for it (rank 0's, unless it was excused).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class RankReport:
    """What one rank brings. name: the folder it asked for. validation: False, True or what the user passed."""

    metrics: Mapping[str, Any]
    has_checkpoint: bool = False
    name: str | None = None
    validation: Any = False


@dataclass
class Round:
    """One report of the whole group. saved: path by rank, for the ranks that bring a checkpoint."""

    number: int
    name: str
    reports: dict[int, RankReport]
    saved: dict[int, Any] = field(default_factory=dict)

    @property
    def waiting_for(self) -> list[int]:
        """The ranks whose checkpoint is not saved yet."""
        return sorted(rank for rank, report in self.reports.items() if report.has_checkpoint and rank not in self.saved)

    @property
    def metrics(self) -> dict[str, Any]:
        """What the round is recorded with."""
        return dict(self.reports[min(self.reports)].metrics)

    @property
    def metrics_of_ranks(self) -> list[dict[str, Any]]:
        """Every rank's metrics, in the order of ranks."""
        return [dict(self.reports[rank].metrics) for rank in sorted(self.reports)]

    @property
    def has_checkpoint(self) -> bool:
        """Ask whether any rank brings a checkpoint."""
        return any(report.has_checkpoint for report in self.reports.values())

    @property
    def validation(self) -> Any:
        """The first wish for a validation among the ranks that bring a checkpoint; False for none."""
        wishes = [self.reports[rank] for rank in sorted(self.reports) if self.reports[rank].has_checkpoint]
        return next((wish.validation for wish in wishes if wish.validation), False)


class ReportRounds:
    """The rounds of one worker group that are not over."""

    def __init__(self) -> None:
        self._open: list[Round] = []

    def begin(self, number: int, name: str, reports: Mapping[int, RankReport]) -> Round:
        """Begin a round, all of whose reports are in. Rounds are begun in order."""
        begun = Round(number, name, dict(reports))
        self._open.append(begun)
        return begun

    def saved(self, number: int, rank: int, path: Any) -> None:
        """Note that rank's checkpoint of this round is saved. A round that is over or forgotten is left alone."""
        for begun in self._open:
            if begun.number == number:
                begun.saved[rank] = path

    def take_finished(self) -> list[Round]:
        """Take the rounds that are over, oldest first, up to the first one that is not."""
        finished = []
        while self._open and not self._open[0].waiting_for:
            finished.append(self._open.pop(0))
        return finished

    def excuse(self, ranks: set[int]) -> None:
        """Stop waiting for the checkpoints of these ranks."""
        for begun in self._open:
            begun.reports = {rank: report for rank, report in begun.reports.items() if rank not in ranks or rank == 0}
