"""Views for the rendering tests: made from facts, as everywhere."""

from __future__ import annotations

from raybook.base.facts import Fact, FactDelta
from raybook.observe import Caps, Curve, Label, Mirror, Rates, View, build_view

NOW_MS = 1_000_000.0


def view_of(*facts: Fact, caps: Caps | None = None, state: str = "RUNNING", name: str = "brave-fox") -> View:
    """The view of a cluster of which these facts are known."""
    mirror = Mirror()
    mirror.apply(FactDelta(0, 1, list(facts), reset=True))
    return build_view(mirror.tables(), 1, Label(name, state), {}, {}, NOW_MS, caps)


def group(name: str, **counts: float) -> Fact:
    """A task_group fact."""
    return Fact("task_group", name, {"name": name, **counts})


def actor(key: str, **fields: object) -> Fact:
    """An actor fact, alive unless told otherwise."""
    return Fact("actor", key, {"actor_id": key, "class_name": "Counter", "state": "ALIVE", "pid": 7, **fields})


def trial(key: str, **fields: object) -> Fact:
    """A trial fact as Tune writes it."""
    row = {"trial_id": key, "experiment": "digits", "state": "RUNNING", "metric_name": "accuracy", "mode": "max"}
    return Fact("trial", key, {**row, **fields})


def experiment(key: str = "run-1", **fields: object) -> Fact:
    """An experiment fact as Tune writes it."""
    return Fact("experiment", key, {"name": "digits", **fields})


__all__ = ["NOW_MS", "Curve", "Rates", "actor", "experiment", "group", "trial", "view_of"]
