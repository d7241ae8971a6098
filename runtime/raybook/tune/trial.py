"""Trial: the table's record, with what callbacks and schedulers written for Ray ask of one beside it.

Adds what needs more than the record: its checkpoint, and resources in any of the shapes that users write them.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from raybook.ml.checkpoint import Checkpoint
from raybook.tune.core.resource_request import as_request
from raybook.tune.core.trial_table import RUNNING
from raybook.tune.core.trial_table import Trial as TrialRecord


def checkpoint_of(trial: TrialRecord, name: str) -> Checkpoint:
    """Return the checkpoint of a trial that has this name."""
    storage = getattr(trial, "storage", None)
    return storage.checkpoint(stored_name(trial.folder, name)) if storage else Checkpoint(f"{trial.folder}/{name}")


def has_checkpoint(trial: TrialRecord, name: str) -> bool:
    """Ask whether the trial's folder has a checkpoint of this name."""
    storage = getattr(trial, "storage", None)
    return storage.has_checkpoint(stored_name(trial.folder, name)) if storage else Path(trial.folder, name).is_dir()


def stored_name(folder: str, name: str) -> str:
    """Return what a checkpoint of the trial with this folder is called on the run's storage."""
    return f"{Path(folder).name}/{name}"


class Trial(TrialRecord):
    """One trial of a sweep."""

    # Where its checkpoints lie if not in its folder: Train's StorageContext. Not kept with the trial's state, since it may
    # hold the keys of the storage.
    storage: Any = None

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name != "storage"}

    @property
    def checkpoint(self) -> Checkpoint | None:
        """The latest checkpoint, None if there is none."""
        latest = self.checkpoints.latest()
        return checkpoint_of(self, latest.name) if latest is not None else None

    def has_checkpoint(self) -> bool:
        """Ask whether there is a checkpoint to go on from."""
        return self.checkpoints.latest() is not None

    @property
    def has_reported_at_least_once(self) -> bool:
        """Ask whether the trial has reported."""
        return self.reports > 0

    @property
    def node_ip(self) -> str | None:
        """The address of the node that it runs or ran on, None before."""
        return self.placement.get("node_ip")

    @property
    def error_file(self) -> str | None:
        """The file with the traceback of the error that ended it, None if it did not fail."""
        return f"{self.folder}/error.txt" if self.error is not None else None

    def set_config(self, config: Mapping[str, Any]) -> None:
        """Give the trial another configuration from its next launch on."""
        self.config = dict(config)

    def update_resources(self, resources: Any) -> None:
        """Give the trial other resources from its next launch on: a dict or a PlacementGroupFactory.

        Raises ValueError while it runs.
        """
        if self.state == RUNNING:
            raise ValueError(
                f"Cannot update the resources of trial {self.trial_id} while it is running: pause it first."
            )
        self.request = as_request(resources)
        self.resources = self.request.required_resources
