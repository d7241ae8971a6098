"""Context of a trial: the verbs of a trial's function, and what it may ask about itself.

They find the current session and hand over; they decide nothing. Source: the surface of Ray's `tune.get_context`.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any

from raybook.ml.checkpoint import Checkpoint
from raybook.ml.session import RunContext, Session, current_session
from raybook.tune.core.resource_request import ResourceRequest
from raybook.tune.execution.placement_groups import PlacementGroupFactory


class TuneContext(RunContext):
    """What a trial's function may ask about its trial."""

    def __init__(self, request: ResourceRequest, **facts: Any) -> None:
        super().__init__(trial_resources=request.required_resources, **facts)
        self._request = request

    def get_trial_resources(self) -> PlacementGroupFactory:  # type: ignore[override]
        """Return what this trial holds, bundle by bundle; `required_resources` is the sum."""
        request = self._request
        bundles = [{}, *request.bundles] if request.head_bundle_is_empty else request.bundles
        return PlacementGroupFactory(bundles, request.strategy)

    def get_local_rank(self) -> int:
        """Return 0: a trial is one process."""
        return 0

    def get_local_world_size(self) -> int:
        """Return 1: a trial is one process."""
        return 1

    def get_node_rank(self) -> int:
        """Return 0: a trial is one process."""
        return 0


def report(metrics: Mapping[str, Any], checkpoint: Checkpoint | None = None) -> None:
    """Report metrics, and a checkpoint if given, and wait for what the sweep makes of them.

    metrics: names to numbers or short values; nested dicts are read as 'a/b'. checkpoint: its folder is copied before
    this returns. A trial that is stopped here does not return. Raises TypeError for other types. Outside of a trial a
    warning, and nothing else, so that a trainable can be tried as the function that it is.
    """
    session = _session_or_warning("report")
    if session is not None:
        session.report(metrics, checkpoint)


def get_checkpoint() -> Checkpoint | None:
    """Return the checkpoint to go on from, or None at a fresh start; None, with a warning, outside of a trial."""
    session = _session_or_warning("get_checkpoint")
    return session.get_checkpoint() if session is not None else None


def _session_or_warning(verb: str) -> Session | None:
    try:
        return current_session(verb)
    except RuntimeError:
        warnings.warn(
            f"`{verb}` is meant to only be called inside a function that is executed by a Tuner or Trainer. Returning "
            "`None`.",
            stacklevel=3,
        )
        return None


def get_context() -> Any:
    """Return names, ids, folder and resources of the running trial. Outside of one, everything in it is None."""
    try:
        return current_session("get_context").context
    except RuntimeError:
        return NoTrial()


class NoTrial:
    """The context where no trial runs: as Ray, every question is answered with None."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("get_"):
            return lambda: None
        raise AttributeError(name)


def get_trial_resources() -> PlacementGroupFactory | None:
    """Return what the running trial holds, None outside of one."""
    return get_context().get_trial_resources()


__all__ = ["TuneContext", "get_checkpoint", "get_context", "get_trial_resources", "report"]
