"""Own runs: what a trial or a training worker needs to know to open a run of a logger's service by itself."""

from __future__ import annotations

from typing import Any

from raybook.ml.session import RunContext, current_session


def context_of_run() -> RunContext | None:
    """Return the context of the trial or worker that runs here, None outside of one."""
    try:
        return current_session("setup").context
    except RuntimeError:
        return None


def trial_name_of(context: RunContext | None) -> str | None:
    """Return the trial's name, None outside of one; the run's for a worker of Train, which has no trial's."""
    if context is None:
        return None
    try:
        return context.get_trial_name() or context.get_experiment_name()
    except (AttributeError, DeprecationWarning):
        return context.get_experiment_name()


class Nothing:
    """What other ranks get: every attribute is this object again, and calls do nothing."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return self

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self

    def __enter__(self) -> Any:
        return self

    def __exit__(self, *error: Any) -> None:
        return None
