"""Result: what one trial or one training run left behind.

Knows the last metrics, the configuration, the checkpoints and the error; reads the metrics' history from the run's
folder only when asked.
"""

from __future__ import annotations

import json
import os
import pickle
import posixpath
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from raybook.ml import filesystem as files
from raybook.ml.checkpoint import Checkpoint
from raybook.ml.core.metrics import check_mode, flatten, has_metric, lookup, score

if TYPE_CHECKING:
    import pandas
    from pyarrow.fs import FileSystem

REPORTS_FILE = "result.json"


@dataclass
class Result:
    """The outcome of one trial. metrics: the last report. error: the exception that ended it, or None."""

    metrics: dict[str, Any] | None
    checkpoint: Checkpoint | None = None
    error: BaseException | None = None
    path: str | None = None
    config: dict[str, Any] | None = None
    best_checkpoints: list[tuple[Checkpoint, Mapping[str, Any]]] = field(default_factory=list)
    # What path lies on; None for this machine's files.
    _storage_filesystem: Any = None

    @property
    def filesystem(self) -> FileSystem:
        """The pyarrow filesystem that `path` lies on. Imports pyarrow."""
        return files.arrow_filesystem(self._storage_filesystem)

    @classmethod
    def from_path(cls, path: str | os.PathLike[str], storage_filesystem: Any | None = None) -> Result:
        """Return what the trial that has this folder left: a path or URI, or a path on storage_filesystem.

        Raises RuntimeError if there is no such folder, or it is none of a trial. Unpickles the trial's error, if it has
        one: only from places you trust.
        """
        found, inner = files.resolve(os.path.expanduser(path), storage_filesystem)
        inner = inner.rstrip("/")
        if not files.exists(found, posixpath.join(inner, REPORTS_FILE)):
            raise RuntimeError(
                f"Cannot read a result from {os.fspath(path)!r}: there is no file {REPORTS_FILE!r}, which a trial's folder "
                "has once the trial has reported."
            )
        result = cls(metrics=None, path=inner, _storage_filesystem=found)
        rows = result._reports()
        by_name = {row["checkpoint_dir_name"]: row for row in rows if row.get("checkpoint_dir_name")}
        names = [name for name in files.names_in(found, inner) if name.startswith("checkpoint_")]
        result.best_checkpoints = [
            (Checkpoint(posixpath.join(inner, name), found), by_name.get(name, {})) for name in names
        ]
        result.metrics = rows[-1] if rows else {}
        result.checkpoint = result.best_checkpoints[-1][0] if names else None
        result.config = result.metrics.get("config")
        error_file = posixpath.join(inner, "error.pkl")
        if files.exists(found, error_file):
            result.error = pickle.loads(files.read_bytes(found, error_file))
        return result

    def _reports(self) -> list[dict[str, Any]]:
        file = posixpath.join(self.path or "", REPORTS_FILE)
        if not self.path or not files.exists(self._storage_filesystem, file):
            return []
        text = files.read_bytes(self._storage_filesystem, file).decode()
        return [json.loads(line) for line in text.splitlines() if line]

    @property
    def metrics_dataframe(self) -> pandas.DataFrame | None:
        """All reports as a pandas table, one row each; None if nothing was reported. Reads the trial's folder."""
        import pandas

        rows = [flatten(row) for row in self._reports()]
        return pandas.DataFrame(rows) if rows else None

    def get_best_checkpoint(self, metric: str, mode: str) -> Checkpoint:
        """Return the kept checkpoint whose report has the best metric.

        Raises ValueError for another mode than "max" or "min", RuntimeError for a metric that none of them has.
        """
        check_mode(mode, "mode")
        if not self.best_checkpoints:
            raise RuntimeError("No checkpoint exists in the trial directory!")
        ranked = [entry for entry in self.best_checkpoints if has_metric(entry[1], metric)]
        if not ranked:
            reported = sorted({name for _, metrics in self.best_checkpoints for name in flatten(metrics)})
            raise RuntimeError(
                f"Invalid metric name {metric}! You may choose from the following metrics: {', '.join(reported)}."
            )
        return max(ranked, key=lambda entry: score(lookup(entry[1], metric), mode))[0]

    def __repr__(self) -> str:
        shown = {key: value for key, value in (self.metrics or {}).items() if key != "config"}
        lines = [f"metrics={shown!r}", f"path={self.path!r}", f"checkpoint={self.checkpoint!r}"]
        if self.error is not None:
            lines.insert(0, f"error={type(self.error).__name__}: {self.error}")
        return "Result(\n  " + ",\n  ".join(lines) + "\n)"
