"""Saved sweep: reads what a run left on disk, and gives its trials back as they were.

Decides which trials go on: those that were cut off, and failed ones if asked. Reads reports that came after the state
was written from the trials' own folders. Does not run anything.
Invariants: a trial that was running becomes a waiting one, with its last checkpoint; finished trials stay as they are; a
checkpoint is taken only if its folder is whole (it appears by a rename).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cloudpickle

from raybook.ml.core.checkpoint_ledger import CheckpointLedger
from raybook.tune.core import trial_table as states
from raybook.tune.core.trial_table import Trial
from raybook.tune.error import TuneError
from raybook.tune.experiment_state import STATE_FILE, STATE_VERSION, TUNER_FILE
from raybook.tune.run_place import RunPlace
from raybook.tune.trial import has_checkpoint

RESUME = "resume"
RESTART = "restart"
SKIP = "skip"


@dataclass
class SavedSweep:
    """A run as it was. machines: searcher, scheduler and so on, None where one could not be kept."""

    folder: Path
    header: dict[str, Any]
    elapsed_ms: int
    trials: list[Trial]
    machines: dict[str, Any]


def read_tuner(place: RunPlace) -> dict[str, Any]:
    """Return what the Tuner of a run was made of. Raises RuntimeError if the folder is none of a run."""
    file = place.folder / TUNER_FILE
    if not file.is_file():
        raise RuntimeError(
            f"Could not find Tuner state in {place.path!r}: there is no file {TUNER_FILE!r}. Give the folder of one run, "
            "which is RunConfig's storage_path and name; Tuner.can_restore() asks without raising."
        )
    return cloudpickle.loads(file.read_bytes())


def read_sweep(folder: Path, storage: Any = None) -> SavedSweep | None:
    """Return the saved sweep, None if the run was ended before it had saved anything. storage: where checkpoints lie."""
    file = folder / STATE_FILE
    if not file.is_file():
        return None
    state = cloudpickle.loads(file.read_bytes())
    if state["version"] != STATE_VERSION:
        raise TuneError(f"{str(file)!r} was written by another version of raybook (format {state['version']}).")
    trials = [cloudpickle.loads(data) for data in state["trials"] if data is not None]
    for trial in trials:
        # The whole run may have been moved.
        trial.folder = str(folder / Path(trial.folder).name)
        if storage is not None:
            trial.storage = storage
    machines = {name: cloudpickle.loads(data) if data else None for name, data in state["machines"].items()}
    return SavedSweep(folder, state, state["elapsed_ms"], trials, machines)


def prepare_trial(trial: Trial, unfinished: str, errored: str, finished: str = SKIP) -> None:
    """Bring a saved trial into the state in which a new run takes it over. Each choice: resume, restart or skip."""
    if not trial.is_terminal:
        catch_up(trial)
        choice = unfinished
    else:
        choice = errored if trial.state == states.ERROR else finished
    if choice == SKIP:
        if not trial.is_terminal:
            trial.state, trial.ended_ms = states.STOPPED, trial.started_ms or 0
        return
    if choice == RESTART:
        _forget(trial)
    trial.error, trial.error_details, trial.ended_ms = None, "", None
    trial.state = states.PAUSED if trial.state == states.PAUSED and choice == RESUME else states.PENDING


def catch_up(trial: Trial) -> None:
    """Enter what a trial reported after the state was written."""
    file = Path(trial.folder) / "result.json"
    if not file.is_file():
        return
    # The last line may be a part: the driver was killed while it wrote.
    rows = [row for row in map(_parsed, file.read_text().splitlines()[trial.reports :]) if row is not None]
    for row in rows:
        result = {**row, "config": trial.config}
        trial.note_result(result, None)
        name = row.get("checkpoint_dir_name")
        if not name:
            continue
        # Numbers are not used twice, though the driver may have deleted this one as one too many.
        trial.next_checkpoint = max(trial.next_checkpoint, int(name.rpartition("_")[2]) + 1)
        known = {entry.name for entry in trial.checkpoints.entries()}
        if name not in known and has_checkpoint(trial, name):
            trial.checkpoints.register(name, result)


def _forget(trial: Trial) -> None:
    old = trial.checkpoints
    trial.checkpoints = CheckpointLedger(old._num_to_keep, old._score_attribute, old._score_order)
    trial.iteration = trial.reports = trial.failures = 0
    trial.last_result, trial.summaries, trial.history = {}, {}, []
    file = Path(trial.folder) / "result.json"
    if file.exists():
        file.unlink()


def _parsed(line: str) -> dict[str, Any] | None:
    try:
        row = json.loads(line)
    except json.JSONDecodeError:
        return None
    return row if isinstance(row, dict) else None


def check_same_space(before: Mapping[str, Any], now: Mapping[str, Any], flat_names: Any) -> None:
    """Raise ValueError, naming the difference, if a search space has other parameters than the run had."""
    old, new = set(flat_names(before)), set(flat_names(now))
    if old != new:
        raise ValueError(
            "Invalid param_space in Tuner.restore(): it must have the parameters of the original run. "
            f"Missing: {sorted(old - new) or 'none'}; new: {sorted(new - old) or 'none'}. Trials that were suggested keep "
            "their configurations; make a new Tuner for another space."
        )
