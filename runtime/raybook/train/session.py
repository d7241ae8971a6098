"""The three verbs of a training function. They find the current session and hand over; they decide nothing."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from raybook.ml.checkpoint import Checkpoint
from raybook.ml.session import RunContext, current_session


def report(metrics: Mapping[str, Any], checkpoint: Checkpoint | None = None) -> None:
    """Report metrics, and a checkpoint if given, to the run. Returns once the run has taken them.

    metrics: names to numbers or short values; nested dicts are read as 'a/b'. checkpoint: its folder is copied before
    this returns. A trial that is stopped here does not return. Raises TypeError for other types, RuntimeError outside.
    """
    current_session("report").report(metrics, checkpoint)


def get_checkpoint() -> Checkpoint | None:
    """Return the checkpoint to go on from, or None at a fresh start. Raises RuntimeError outside of a run."""
    return current_session("get_checkpoint").get_checkpoint()


def get_context() -> RunContext:
    """Return names, ids, folder and resources of the running trial. Raises RuntimeError outside of a run."""
    return current_session("get_context").context
