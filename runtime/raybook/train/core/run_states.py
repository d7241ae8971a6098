"""Run states: the life of a training run as a table.

Decides which step may follow which. Source: the controller's states of Ray Train v2, less its internal ones.
"""

from __future__ import annotations

INITIALIZING = "INITIALIZING"
SCHEDULING = "SCHEDULING"
RUNNING = "RUNNING"
RESTARTING = "RESTARTING"
RESIZING = "RESIZING"
FINISHED = "FINISHED"
ERRORED = "ERRORED"
ABORTED = "ABORTED"

ENDED = frozenset({FINISHED, ERRORED, ABORTED})

TRANSITIONS: dict[str, frozenset[str]] = {
    INITIALIZING: frozenset({SCHEDULING, ERRORED, ABORTED}),
    # A group that could not be started is scheduled again.
    SCHEDULING: frozenset({RUNNING, RESTARTING, ERRORED, ABORTED}),
    RUNNING: frozenset({RESTARTING, RESIZING, FINISHED, ERRORED, ABORTED}),
    RESTARTING: frozenset({SCHEDULING, ERRORED, ABORTED}),
    RESIZING: frozenset({SCHEDULING, ERRORED, ABORTED}),
    FINISHED: frozenset(),
    ERRORED: frozenset(),
    ABORTED: frozenset(),
}


class RunState:
    """Where a run is. attempts: worker groups that ran, or tried to."""

    def __init__(self) -> None:
        self.name = INITIALIZING
        self.attempts = 0

    def to(self, name: str) -> None:
        """Take a step. Raises ValueError for one that is not in the table."""
        if name not in TRANSITIONS[self.name]:
            raise ValueError(f"A run that is {self.name} cannot become {name}.")
        self.name = name
        if name == SCHEDULING:
            self.attempts += 1

    @property
    def is_over(self) -> bool:
        """Ask whether the run has ended."""
        return self.name in ENDED
