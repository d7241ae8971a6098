"""Experiment state: the sweep's table on disk, so that a later run can tell what was done.

One JSON file a run, replaced whole. Written at most once a second while trials change, and at the end: a killed driver
loses at most that second. Each trial's reports are in its own folder and are not repeated here.
"""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import cloudpickle

from raybook.ml.storage import to_json, write_text_atomically
from raybook.tune.core.trial_table import Trial, TrialTable
from raybook.tune.observer import SweepObserver

STATE_VERSION = 1
WRITE_INTERVAL_MS = 1_000


class ExperimentStateFile(SweepObserver):
    """Keeps `experiment_state-<run>.json` up to date. header: name, metric, mode and the like."""

    def __init__(self, folder: Path, run_id: str, header: dict[str, Any]) -> None:
        self.path = folder / f"experiment_state-{run_id}.json"
        self._header = header
        self._is_dirty = False
        self._written_ms: int | None = None
        self._pickled: dict[str, str] = {}

    def on_trial_changed(self, trial: Trial, now_ms: int) -> None:
        self._is_dirty = True

    def on_tick(self, table: TrialTable, now_ms: int) -> None:
        if self._is_dirty and (self._written_ms is None or now_ms - self._written_ms >= WRITE_INTERVAL_MS):
            self._write(table, now_ms)

    def on_end(self, table: TrialTable, now_ms: int) -> None:
        self._write(table, now_ms)

    def _write(self, table: TrialTable, now_ms: int) -> None:
        trials = [self._trial_row(trial) for trial in table]
        state = {"version": STATE_VERSION, **self._header, "statistics": dict(table.statistics()), "trials": trials}
        write_text_atomically(self.path, to_json(state) + "\n")
        self._is_dirty = False
        self._written_ms = now_ms

    def _trial_row(self, trial: Trial) -> dict[str, Any]:
        if trial.trial_id not in self._pickled:
            # JSON shows a configuration to people; the pickle gives the very objects back.
            self._pickled[trial.trial_id] = base64.b64encode(cloudpickle.dumps(trial.config)).decode()
        return {
            "trial_id": trial.trial_id,
            "index": trial.index,
            "name": trial.name,
            "state": trial.state,
            "attempt": trial.attempt,
            "failures": trial.failures,
            "iteration": trial.iteration,
            "folder": trial.folder,
            "resources": trial.resources,
            "config": trial.config,
            "config_pickle": self._pickled[trial.trial_id],
            "last_result": {key: value for key, value in trial.last_result.items() if key != "config"},
            "checkpoints": [entry.name for entry in trial.checkpoints.entries()],
            "error": f"{type(trial.error).__name__}: {trial.error}" if trial.error is not None else None,
        }
