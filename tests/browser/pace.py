"""Figures that a person would feel, on machines that are not all alike.

The goal is for a machine that does nothing else; a run of the checks shares its cores with whatever else there is, so
it gates at ten times the goal, which still tells a feature that is there from one that is not. RAYBOOK_STRICT_TIMES=1 gates
at the goal itself. Every figure is printed (`-rP` shows it).
"""

from __future__ import annotations

import os

SLACK = 10


def limit_ms(goal_ms: float) -> float:
    """What a run is held to."""
    return goal_ms if os.environ.get("RAYBOOK_STRICT_TIMES") == "1" else goal_ms * SLACK


def assert_within(what: str, measured_ms: float, *, goal_ms: float) -> None:
    said = f"{what}: {measured_ms:.0f} ms, goal {goal_ms:.0f} ms"
    print(said)
    assert measured_ms < limit_ms(goal_ms), said
