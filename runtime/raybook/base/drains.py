"""Why a node is emptied: Ray's names, and what they mean in words. Pure data that the CLI, the GCS and nodes share."""

from __future__ import annotations

IDLE_TERMINATION = "DRAIN_NODE_REASON_IDLE_TERMINATION"
"""It is not needed. A node on which somebody computes refuses."""
PREEMPTION = "DRAIN_NODE_REASON_PREEMPTION"
"""It will be taken away, as spot instances are; nobody asks it."""
UNSPECIFIED = "DRAIN_NODE_REASON_UNSPECIFIED"
REASONS = (UNSPECIFIED, IDLE_TERMINATION, PREEMPTION)

NO_DEADLINE = -1

_WORDS = {IDLE_TERMINATION: "it is not needed", PREEMPTION: "it is taken away"}


def words_of(reason: str, message: str = "") -> str:
    """A reason for people: "it is taken away: spot notice"."""
    words = _WORDS.get(reason, "somebody asked for it")
    return f"{words}: {message}" if message else words
