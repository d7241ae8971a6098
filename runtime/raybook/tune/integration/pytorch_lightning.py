"""Lightning inside a trial: a callback that reports metrics, and checkpoints, at the hooks one names.

Source: the surface of Ray's `ray.tune.integration.pytorch_lightning`.
"""

from __future__ import annotations

import inspect
import os
import tempfile
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from raybook.ml.checkpoint import Checkpoint
from raybook.train.lightning.library import pl
from raybook.tune.context import report

HOOKS = frozenset(
    name.removeprefix("on_")
    for name, _ in inspect.getmembers(pl.callbacks.Callback, inspect.isfunction)
    if name.startswith("on_")
)


class TuneCallback(pl.callbacks.Callback):
    """Base: calls `_handle(trainer, pl_module)` at some of Lightning's hooks. on: their names without "on_".

    Raises ValueError for a name that Lightning has no hook of.
    """

    def __init__(self, on: str | Sequence[str] = "validation_end") -> None:
        super().__init__()
        chosen = [on] if isinstance(on, str) else list(on)
        for hook in chosen:
            if hook not in HOOKS:
                raise ValueError(f"Invalid hook selected: {hook}. Must be one of {sorted(HOOKS)}.")
        self._on = chosen

    def _handle(self, trainer: Any, pl_module: Any) -> None:
        raise NotImplementedError(f"{type(self).__name__} must have a method _handle(trainer, pl_module).")


def _make_hook(name: str) -> Callable[..., None]:
    def hook(self: TuneCallback, trainer: Any, pl_module: Any = None, *args: Any, **kwargs: Any) -> None:
        if name in self._on:
            self._handle(trainer, pl_module)

    return hook


for _name in HOOKS:
    setattr(TuneCallback, f"on_{_name}", _make_hook(_name))


class TuneReportCheckpointCallback(TuneCallback):
    """Reports to the trial. metrics: names in `trainer.callback_metrics`, or {new name: name}; all if None.

    filename: of the checkpoint. save_checkpoints: False reports metrics alone. on: when, see TuneCallback.
    """

    def __init__(
        self,
        metrics: str | Sequence[str] | Mapping[str, str] | None = None,
        filename: str = "checkpoint",
        save_checkpoints: bool = True,
        on: str | Sequence[str] = "validation_end",
    ) -> None:
        super().__init__(on)
        chosen = [metrics] if isinstance(metrics, str) else metrics
        self._metrics = chosen if chosen is None or isinstance(chosen, Mapping) else {name: name for name in chosen}
        self._filename = filename
        self._save_checkpoints = save_checkpoints

    def _handle(self, trainer: Any, pl_module: Any) -> None:
        if trainer.sanity_checking:
            return
        measured = {name: value.item() for name, value in trainer.callback_metrics.items()}
        chosen = measured
        if self._metrics:
            missing = sorted(set(self._metrics.values()) - set(measured))
            if missing:
                warnings.warn(f"Lightning has measured no {missing} yet; it has {sorted(measured)}.", stacklevel=2)
            chosen = {name: measured[measure] for name, measure in self._metrics.items() if measure in measured}
        if not chosen:
            return
        if not self._save_checkpoints:
            report(chosen)
            return
        with tempfile.TemporaryDirectory(prefix="lightning_") as folder:
            trainer.save_checkpoint(os.path.join(folder, self._filename))
            report(chosen, checkpoint=Checkpoint.from_directory(folder))


class TuneReportCallback(TuneReportCheckpointCallback):
    """Deprecated: TuneReportCheckpointCallback(save_checkpoints=False)."""

    def __init__(
        self,
        metrics: str | Sequence[str] | Mapping[str, str] | None = None,
        on: str | Sequence[str] = "validation_end",
    ) -> None:
        warnings.warn("TuneReportCallback is deprecated: use TuneReportCheckpointCallback.", stacklevel=2)
        super().__init__(metrics, save_checkpoints=False, on=on)


__all__ = ["TuneCallback", "TuneReportCallback", "TuneReportCheckpointCallback"]
