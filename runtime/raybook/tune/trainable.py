"""Trainable: training code written as a class, one step at a time.

The class is the user's; this base gives it names, counts and folders, and saves and restores it. It does not decide when
a checkpoint is made.
Source: the surface of Ray's `tune.Trainable`.
"""

from __future__ import annotations

import copy
import os
import pickle
import socket
import tempfile
import time
from datetime import datetime
from pathlib import Path
from typing import Any

import cloudpickle

from raybook.ml.checkpoint import Checkpoint
from raybook.tune.core.resource_request import ResourceRequest

DICT_CHECKPOINT_FILE = "dict_checkpoint.pkl"
STATE_FILE = ".tune_metadata"


class Trainable:
    """Base of class trainables: override `setup` and `step`, and the two checkpoint methods to be able to go on."""

    def __init__(
        self,
        config: dict[str, Any] | None = None,
        *,
        trial_id: str = "default",
        trial_name: str = "",
        logdir: str = "",
        trial_resources: ResourceRequest | None = None,
    ) -> None:
        self.config: dict[str, Any] = config or {}
        self.trial_id = trial_id
        self.trial_name = trial_name
        self.logdir = logdir
        self.trial_resources = trial_resources
        self._forget_progress()
        self._last_result: dict[str, Any] | None = None
        self.setup(copy.deepcopy(self.config))

    @classmethod
    def default_resource_request(cls, config: dict[str, Any]) -> Any:
        """Return the resources of a trial with this configuration, None for one CPU. Override as you need."""
        return None

    @classmethod
    def resource_help(cls, config: dict[str, Any]) -> str:
        """Return a text for when these resources cannot be met."""
        return ""

    @property
    def iteration(self) -> int:
        """How many steps are done, those before a restore included."""
        return self._iteration

    training_iteration = iteration

    def setup(self, config: dict[str, Any]) -> None:
        """Prepare; called once, before the first step."""

    def step(self) -> dict[str, Any]:
        """Do one iteration and return its metrics; `done: True` among them ends the trial."""
        raise NotImplementedError(f"{type(self).__name__} must have a method step() that returns metrics.")

    def save_checkpoint(self, checkpoint_dir: str) -> dict[str, Any] | None:
        """Write state into the folder, or return it as a dict that can be pickled."""
        raise NotImplementedError(f"{type(self).__name__} has no save_checkpoint(), so it cannot be saved or paused.")

    def load_checkpoint(self, checkpoint: Any) -> None:
        """Take state back: the dict that save_checkpoint returned, or else the folder it wrote."""
        raise NotImplementedError(f"{type(self).__name__} has no load_checkpoint(), so it cannot go on from one.")

    def cleanup(self) -> None:
        """Let go of what setup acquired; called once, at the end."""

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Take a new configuration in place; False if that is not possible."""
        return False

    def log_result(self, result: dict[str, Any]) -> None:
        """Called with each result, before it is reported."""

    def export_model(self, export_formats: Any, export_dir: str | None = None) -> dict[str, str]:
        """Write the model in each of the formats by `_export_model` and return {format: path}."""
        formats = [export_formats] if isinstance(export_formats, str) else list(export_formats)
        return self._export_model(formats, export_dir or self.logdir)

    def _export_model(self, export_formats: list[str], export_dir: str) -> dict[str, str]:
        return {}

    def train(self) -> dict[str, Any]:
        """Do one step, count it, and return its metrics with those that every result carries."""
        started_s = time.monotonic()
        result = self.step()
        if not isinstance(result, dict):
            raise TypeError(f"{type(self).__name__}.step() must return a dict of metrics, not {result!r}.")
        result = dict(result)
        self._iteration += 1
        self._iterations_since_restore += 1
        spent_s = result.get("time_this_iter_s", time.monotonic() - started_s)
        self._time_total += spent_s
        self._time_since_restore += spent_s
        result.setdefault("done", False)
        result.setdefault("training_iteration", self._iteration)
        now = datetime.now()
        filled = {
            "trial_id": self.trial_id,
            "date": now.strftime("%Y-%m-%d_%H-%M-%S"),
            "timestamp": int(now.timestamp()),
            "time_this_iter_s": spent_s,
            "time_total_s": self._time_total,
            "time_since_restore": self._time_since_restore,
            "iterations_since_restore": self._iterations_since_restore,
            "pid": os.getpid(),
            "hostname": socket.gethostname(),
            "config": self.config,
        }
        result.update({name: value for name, value in filled.items() if name not in result})
        self.log_result(result)
        self._last_result = result
        return result

    def save(self, checkpoint_dir: str | None = None) -> Checkpoint:
        """Save into a folder, a new temporary one if None, and return it as a checkpoint."""
        folder = checkpoint_dir or tempfile.mkdtemp(prefix="checkpoint_")
        os.makedirs(folder, exist_ok=True)
        state = self.save_checkpoint(folder)
        if isinstance(state, dict):
            (Path(folder) / DICT_CHECKPOINT_FILE).write_bytes(cloudpickle.dumps(state))
        (Path(folder) / STATE_FILE).write_bytes(pickle.dumps(self.get_state()))
        return Checkpoint(folder)

    def restore(self, checkpoint_path: Any) -> None:
        """Take back what save stored: a checkpoint or its folder. Only from what you trust."""
        checkpoint = checkpoint_path if hasattr(checkpoint_path, "as_directory") else Checkpoint(checkpoint_path)
        with checkpoint.as_directory() as folder:
            saved, counts = Path(folder) / DICT_CHECKPOINT_FILE, Path(folder) / STATE_FILE
            self.load_checkpoint(pickle.loads(saved.read_bytes()) if saved.exists() else folder)
            if counts.exists():
                state = pickle.loads(counts.read_bytes())
                self._iteration, self._time_total = state["iteration"], state["time_total"]
        self._time_since_restore, self._iterations_since_restore = 0.0, 0

    def get_state(self) -> dict[str, Any]:
        """Return the counts that go on after a restore."""
        return {"iteration": self._iteration, "time_total": self._time_total, "last_result": self._last_result}

    def get_config(self) -> dict[str, Any]:
        """Return the configuration."""
        return self.config

    def reset(self, new_config: dict[str, Any]) -> bool:
        """Take a new configuration and begin to count anew. Returns False if reset_config cannot."""
        self.config = new_config
        if not self.reset_config(new_config):
            return False
        self._forget_progress()
        return True

    def stop(self) -> None:
        """End: calls cleanup()."""
        self.cleanup()

    def _forget_progress(self) -> None:
        self._iteration = 0
        self._iterations_since_restore = 0
        self._time_total = 0.0
        self._time_since_restore = 0.0
