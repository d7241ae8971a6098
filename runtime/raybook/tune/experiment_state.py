"""Experiment state: the sweep's table on disk, so that a later run can tell what was done and go on from there.

Two files, each replaced whole: `experiment_state-<run>.json` for people, and `sweep_state.pkl`, which holds the very
objects. Written while trials change, at most once a second and never for more than a twentieth of the time, and at the
end. What a killed driver had not written yet is in the trials' own folders, where each report is at once.
Invariant: a sweep that is cut off (an interrupt, an error) leaves the state from before its trials were ended, so that
they count as unfinished.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cloudpickle

from raybook.ml.storage import to_json, write_bytes_atomically, write_text_atomically
from raybook.tune.core.trial_table import Trial, TrialTable
from raybook.tune.observer import SweepObserver

STATE_VERSION = 2
WRITE_INTERVAL_MS = 1_000
# Writing may take this share of the time at most.
WRITE_SHARE = 0.05
STATE_FILE = "sweep_state.pkl"
TUNER_FILE = "tuner.pkl"


class ExperimentStateFile(SweepObserver):
    """Keeps the state files up to date. header: name, metric, mode and the like. machines: what else is kept, by name."""

    def __init__(
        self, folder: Path, run_id: str, header: dict[str, Any], machines: Callable[[], dict[str, Any]] | None = None
    ) -> None:
        self.path = folder / f"experiment_state-{run_id}.json"
        self._folder = folder
        self._header = header
        self._machines = machines
        self._is_dirty = False
        self._is_cut_off = False
        self._next_ms = 0
        self._ended: dict[str, tuple[dict[str, Any], bytes | None]] = {}
        self._has_warned = False

    def on_trial_changed(self, trial: Trial, now_ms: int) -> None:
        self._is_dirty = True

    def on_checkpoint(self, trial: Trial, name: str, now_ms: int) -> None:
        self._is_dirty = True

    def on_tick(self, table: TrialTable, now_ms: int) -> None:
        if self._is_dirty and now_ms >= self._next_ms:
            self._write(table, now_ms)

    def on_cut_off(self, table: TrialTable, now_ms: int) -> None:
        self._write(table, now_ms)
        self._is_cut_off = True

    def on_end(self, table: TrialTable, now_ms: int) -> None:
        self._write(table, now_ms)

    def _write(self, table: TrialTable, now_ms: int) -> None:
        started_s = time.monotonic()
        kept = [self._kept(trial) for trial in table]
        rows = [row for row, _ in kept]
        state = {"version": STATE_VERSION, **self._header, "statistics": dict(table.statistics()), "trials": rows}
        write_text_atomically(self.path, to_json(state) + "\n")
        if self._machines is not None and not self._is_cut_off:
            self._write_pickle([data for _, data in kept], now_ms)
        spent_ms = (time.monotonic() - started_s) * 1000
        self._is_dirty = False
        self._next_ms = now_ms + max(WRITE_INTERVAL_MS, round(spent_ms / WRITE_SHARE))

    def _write_pickle(self, trials: list[bytes | None], now_ms: int) -> None:
        assert self._machines is not None
        machines = {name: self._pickled(name, machine) for name, machine in self._machines().items()}
        state = {"version": STATE_VERSION, **self._header, "elapsed_ms": now_ms, "trials": trials, "machines": machines}
        write_bytes_atomically(self._folder / STATE_FILE, cloudpickle.dumps(state))

    def _pickled(self, name: str, value: Any) -> bytes | None:
        try:
            return cloudpickle.dumps(value)
        except Exception as error:  # noqa: BLE001 - pickling runs the user's code, which may raise anything.
            if not self._has_warned:
                self._has_warned = True
                warnings.warn(
                    f"The {name} of this sweep cannot be pickled ({type(error).__name__}: {error}), so Tuner.restore() "
                    "will begin with a new one. The sweep itself goes on.",
                    stacklevel=2,
                )
            return None

    def _kept(self, trial: Trial) -> tuple[dict[str, Any], bytes | None]:
        """Return the trial as a row and as a pickle. Those that have ended are made once."""
        if trial.trial_id in self._ended:
            return self._ended[trial.trial_id]
        made = self._row(trial), self._pickled(f"trial {trial.trial_id}", trial)
        if trial.is_terminal:
            self._ended[trial.trial_id] = made
        return made

    @staticmethod
    def _row(trial: Trial) -> dict[str, Any]:
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
            "last_result": {key: value for key, value in trial.last_result.items() if key != "config"},
            "checkpoints": [entry.name for entry in trial.checkpoints.entries()],
            "error": f"{type(trial.error).__name__}: {trial.error}" if trial.error is not None else None,
        }
