"""Revival: how long to wait before a GCS that died is started again. Hardly at all, unless it keeps dying.

Knows nothing of processes or why they die.
"""

from __future__ import annotations

STEADY_MS = 10_000
"""One that lived for so long did not die of its own start."""
FIRST_PAUSE_MS = 100
PAUSE_MS_MAX = 10_000
"""A store that is away for an hour is found again ten seconds after it is back, and the log stays short."""


def pause_ms(lived_ms: int, last_pause_ms: int) -> int:
    """Pause before the next start. lived_ms: of the life that ended. last_pause_ms: the pause before that life, 0 for none.
    Doubles from FIRST_PAUSE_MS to PAUSE_MS_MAX while lives are short."""
    if lived_ms >= STEADY_MS:
        return 0
    return min(max(2 * last_pause_ms, FIRST_PAUSE_MS), PAUSE_MS_MAX)
