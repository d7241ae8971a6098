"""Checkpoint keeper: the run's checkpoints on its storage, and the record of them.

The book decides what stays; this writes, renames and deletes. Blocks; the controller calls it from one thread at a time.
Invariants: a checkpoint has its name before the record names it, and the record has forgotten one before it is deleted,
so whoever reads the record finds everything it names, also after `kill -9` at any moment.
"""

from __future__ import annotations

import json
from typing import Any

from raybook.ml.checkpoint import Checkpoint
from raybook.train.config import CheckpointConfig
from raybook.train.core.checkpoint_book import CheckpointBook, SavedCheckpoint
from raybook.train.core.report_rounds import Round
from raybook.train.exceptions import CheckpointManagerInitializationError
from raybook.train.reported_checkpoint import ReportedCheckpoint, ReportedCheckpointStatus
from raybook.train.storage import StorageContext


class CheckpointKeeper:
    """The checkpoints of one run."""

    def __init__(self, storage: StorageContext, config: CheckpointConfig | None = None) -> None:
        """Takes up what the run's folder records. Raises CheckpointManagerInitializationError if it cannot be used.

        config: None to only read, ranked as the run did it.
        """
        is_reader = config is None
        config = config or CheckpointConfig()
        self._storage = storage
        self.book = CheckpointBook(config.num_to_keep, config.checkpoint_score_attribute, config.checkpoint_score_order)
        record = storage.read_record()
        if record is not None:
            self._load(record, is_reader)

    @property
    def found_checkpoints(self) -> bool:
        """Ask whether there is any checkpoint."""
        return self.book.latest() is not None

    def latest(self) -> Checkpoint | None:
        """Return the newest checkpoint, None if there is none."""
        entry = self.book.latest()
        return self._storage.checkpoint(entry.name) if entry is not None else None

    def kept(self) -> list[tuple[Checkpoint, dict[str, Any]]]:
        """Return the checkpoints that are kept with their metrics, worst first and best last (by age without score)."""
        return [(self._storage.checkpoint(entry.name), entry.metrics) for entry in self.book.ranked()]

    def reported(self) -> list[ReportedCheckpoint]:
        """Return the checkpoints that are kept, in the same order, as users see them."""
        return [
            ReportedCheckpoint(
                self._storage.checkpoint(entry.name), dict(entry.metrics), ReportedCheckpointStatus(entry.status)
            )
            for entry in self.book.ranked()
        ]

    def pending(self) -> list[SavedCheckpoint]:
        """Return those whose validation is out."""
        return self.book.pending()

    def keep(self, finished: Round) -> Checkpoint | None:
        """Take a round that is over; return its checkpoint, None if it brought none. Cost: a rename and a small file."""
        if not finished.has_checkpoint:
            self.book.reported(finished.metrics)
            return None
        names = sorted(set(finished.saved.values()))
        if len(names) > 1:
            raise RuntimeError(
                f"The ranks saved the checkpoint of one report under different names: {', '.join(names)}. With "
                "checkpoint_upload_fn or NO_UPLOAD every rank must name the same folder."
            )
        self._storage.publish(names[0])
        given_up = self.book.register(names[0], finished.metrics, bool(finished.validation))
        self._record_and_delete(given_up)
        return self._storage.checkpoint(names[0])

    def validated(self, name: str, status: str, metrics: dict[str, Any]) -> None:
        """Note how the validation of a checkpoint ended."""
        self._record_and_delete(self.book.validated(name, status, metrics))

    def end(self) -> None:
        """Write down the last metrics too."""
        if self.book.reports:
            self._record_and_delete([])

    def _record_and_delete(self, given_up: list[str]) -> None:
        text = json.dumps(self.book.to_record(), default=_plain, indent=1)
        self._storage.write_record(text.encode())
        for name in given_up:
            self._storage.delete_checkpoint(name)

    def _load(self, record: bytes, is_reader: bool) -> None:
        try:
            values = json.loads(record)
            self.book.load(values)
            if is_reader:
                self.book.score_as(values)
        except ValueError as error:
            raise CheckpointManagerInitializationError(
                f"The record of checkpoints {self._storage.checkpoint_manager_snapshot_path!r} cannot be read: {error}. "
                "Nothing was started. Give the run a new RunConfig(name), or delete its folder."
            ) from error
        for entry in self.book.entries():
            if not self._storage.has_checkpoint(entry.name):
                raise CheckpointManagerInitializationError(
                    f"The run {self._storage.experiment_dir_name!r} recorded a checkpoint {entry.name!r} that is not in "
                    f"{self._storage.experiment_fs_path!r} any more. Nothing was started. Put it back, give the run a "
                    "new RunConfig(name), or delete its folder."
                )


def _plain(value: Any) -> Any:
    """What JSON makes of a metric that it does not know: numbers of numpy as numbers, the rest as text."""
    if getattr(value, "ndim", None) == 0 and hasattr(value, "item"):
        return value.item()
    return repr(value)
