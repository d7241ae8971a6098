"""Trial folders: the files that a trial leaves behind, under names that Ray's users know.

`params.json` the configuration · `result.json` one report a line · `progress.csv` the same as a table, with the first
report's columns · `error.txt` the traceback, `error.pkl` the error · `checkpoint_000000/` and so on.
Decides only folder names.
Invariant: a folder belongs to one trial, also when a sweep is run again under the same name.
"""

from __future__ import annotations

import contextlib
import csv
import itertools
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import cloudpickle

from raybook.ml.core.metrics import flatten
from raybook.ml.storage import (
    delete_folder,
    persist_folder,
    to_json,
    write_bytes_atomically,
    write_text_atomically,
)
from raybook.tune.core.trial_table import ERROR, Trial
from raybook.tune.observer import SweepObserver
from raybook.tune.run_place import RunPlace
from raybook.tune.trial import checkpoint_of, stored_name

NAME_LENGTH_MAX = 120


class TrialFolders(SweepObserver):
    """Makes the folders of a sweep's trials and writes into them (`controller.TrialFiles`, and an observer)."""

    def __init__(self, root: Path | RunPlace, dirname: Callable[[Trial], str] | None = None) -> None:
        place = root if isinstance(root, RunPlace) else RunPlace(root)
        self._root = place.folder
        self._storage = place.storage
        self._taken = place.names()
        self._dirname = dirname
        self._columns: dict[str, list[str]] = {}

    def create(self, trial: Trial) -> str:
        """Make the trial's folder, under a name no other has, and write its configuration."""
        wanted = self._dirname(trial) if self._dirname is not None else trial.name
        safe = re.sub(r"[^\w.,=+-]+", "_", wanted)[:NAME_LENGTH_MAX] or trial.trial_id
        for number in itertools.count():
            folder = self._root / (safe if number == 0 else f"{safe}_{number}")
            if folder.name in self._taken:
                continue
            try:
                folder.mkdir(parents=True)
            except FileExistsError:
                continue
            break
        write_text_atomically(folder / "params.json", to_json(trial.config) + "\n")
        if self._storage is not None:
            trial.storage = self._storage  # type: ignore[attr-defined]
        return str(folder)

    def checkpoint_path(self, trial: Trial, name: str) -> str:
        return str(Path(trial.folder) / name)

    def delete_checkpoint(self, trial: Trial, name: str) -> None:
        if self._storage is not None:
            self._storage.delete_checkpoint(stored_name(trial.folder, name))
        else:
            delete_folder(Path(trial.folder) / name)

    def copy_checkpoint(self, source: Trial, source_name: str, target: Trial, target_name: str) -> None:
        if self._storage is not None:
            found = checkpoint_of(source, source_name)
            self._storage.persist_current_checkpoint(found, stored_name(target.folder, target_name))
        else:
            persist_folder(Path(source.folder) / source_name, Path(target.folder) / target_name)

    def write_file(self, name: str, text: str) -> None:
        write_text_atomically(self._root / name, text)

    def on_result(self, trial: Trial, result: Mapping[str, Any], now_ms: int) -> None:
        folder = Path(trial.folder)
        with open(folder / "result.json", "a") as file:
            file.write(to_json(result) + "\n")
        row = flatten({key: value for key, value in result.items() if key != "config"})
        is_first = trial.trial_id not in self._columns
        columns = self._columns.setdefault(trial.trial_id, list(row))
        with open(folder / "progress.csv", "a", newline="") as file:
            writer = csv.DictWriter(file, columns, restval="", extrasaction="ignore")
            if is_first:
                writer.writeheader()
            writer.writerow(row)

    def on_trial_changed(self, trial: Trial, now_ms: int) -> None:
        if trial.state == ERROR:
            write_text_atomically(Path(trial.folder) / "error.txt", trial.error_details or str(trial.error))
            # Under Ray's name, for Result.from_path; an error that cannot be pickled is in the text alone.
            with contextlib.suppress(Exception):
                write_bytes_atomically(Path(trial.folder) / "error.pkl", cloudpickle.dumps(trial.error))
