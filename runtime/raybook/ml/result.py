"""Result: what one trial or one training run left behind.

Knows the last metrics, the configuration, the checkpoints and the error; reads the metrics' history from the run's
folder only when asked.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from raybook.ml.checkpoint import Checkpoint
from raybook.ml.core.metrics import check_mode, flatten, has_metric, lookup, score

if TYPE_CHECKING:
    import pandas


@dataclass
class Result:
    """The outcome of one trial. metrics: the last report. error: the exception that ended it, or None."""

    metrics: dict[str, Any] | None
    checkpoint: Checkpoint | None = None
    error: BaseException | None = None
    path: str | None = None
    config: dict[str, Any] | None = None
    best_checkpoints: list[tuple[Checkpoint, Mapping[str, Any]]] = field(default_factory=list)

    @property
    def metrics_dataframe(self) -> pandas.DataFrame | None:
        """All reports as a pandas table, one row each; None if nothing was reported. Reads the trial's folder."""
        import pandas

        file = Path(self.path) / "result.json" if self.path else None
        if file is None or not file.exists():
            return None
        rows = [flatten(json.loads(line)) for line in file.read_text().splitlines() if line]
        return pandas.DataFrame(rows) if rows else None

    def get_best_checkpoint(self, metric: str, mode: str) -> Checkpoint | None:
        """Return the kept checkpoint whose report has the best metric, None if none has it."""
        check_mode(mode, "mode")
        ranked = [entry for entry in self.best_checkpoints if has_metric(entry[1], metric)]
        if not ranked:
            return None
        return max(ranked, key=lambda entry: score(lookup(entry[1], metric), mode))[0]

    def __repr__(self) -> str:
        shown = {key: value for key, value in (self.metrics or {}).items() if key != "config"}
        lines = [f"metrics={shown!r}", f"path={self.path!r}", f"checkpoint={self.checkpoint!r}"]
        if self.error is not None:
            lines.insert(0, f"error={type(self.error).__name__}: {self.error}")
        return "Result(\n  " + ",\n  ".join(lines) + "\n)"
