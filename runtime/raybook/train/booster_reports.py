"""Booster reports: what the callbacks of XGBoost and LightGBM have in common: which metrics, when a checkpoint."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from raybook.ml.checkpoint import Checkpoint
from raybook.train.session import get_context, report

PostProcess = Callable[[dict[str, Any]], dict[str, Any]]


class BoosterReports:
    """Reports of one training. metrics: names to report, or new names for them; all under their own names if None.

    frequency: iterations between two checkpoints, 0 for none before the end. postprocess: changes what is reported.
    """

    def __init__(
        self,
        metrics: str | Sequence[str] | Mapping[str, str] | None,
        filename: str,
        frequency: int,
        checkpoint_at_end: bool,
        postprocess: PostProcess | None,
    ) -> None:
        chosen = [metrics] if isinstance(metrics, str) else metrics
        self._metrics = chosen if chosen is None or isinstance(chosen, Mapping) else {name: name for name in chosen}
        self._filename = filename
        self._frequency = frequency
        self._checkpoint_at_end = checkpoint_at_end
        self._postprocess = postprocess
        self._saved_at: int | None = None
        self._last: dict[str, Any] = {}

    def choose(self, measured: dict[str, Any]) -> dict[str, Any]:
        """Return what is to be reported of what was measured. Raises KeyError, with what there is, for another name."""
        chosen = measured
        if self._metrics:
            missing = sorted(set(self._metrics.values()) - set(measured))
            if missing:
                raise KeyError(f"The metrics {missing} are not among those measured: {sorted(measured)}.")
            chosen = {name: measured[measure] for name, measure in self._metrics.items()}
        return self._postprocess(chosen) if self._postprocess is not None else chosen

    def iteration(
        self, number: int, measured: dict[str, Any], save: Callable[[str], Any], is_saved: bool = False
    ) -> None:
        """Report one iteration. save: writes the model to a path. is_saved: with a checkpoint in any case."""
        self._last = measured
        if is_saved or (self._frequency and (number + 1) % self._frequency == 0):
            self._report(number, save)
        else:
            report(self.choose(measured))

    def end(self, number: int, save: Callable[[str], Any]) -> None:
        """Report the end, with a checkpoint unless the last iteration had one. number: of the last iteration."""
        if self._checkpoint_at_end and self._saved_at != number:
            self._report(number, save)

    def _report(self, number: int, save: Callable[[str], Any]) -> None:
        self._saved_at = number
        metrics = self.choose(self._last) if self._last else {}
        # The model is the same on all workers; in a trial there is only one.
        if get_context().get_world_rank() not in (0, None):
            report(metrics)
            return
        with tempfile.TemporaryDirectory(prefix="booster_") as folder:
            save(str(Path(folder, self._filename)))
            report(metrics, checkpoint=Checkpoint.from_directory(folder))
