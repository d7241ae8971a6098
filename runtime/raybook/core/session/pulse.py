"""Pulse: when to give a sign of life on an open connection, and when the other side's silence means that it is lost.

Source of the times: routers between two networks forget a connection that is silent for some minutes at the least; a lost
network should be noticed sooner than a user loses patience. Three signs must be missed.
"""

from __future__ import annotations

SIGN_OF_LIFE_MS = 5_000
SILENCE_MS = 15_000
ACK_MS = 200
"""What was received is acknowledged by then, if nothing was to be said before."""


class Pulse:
    __slots__ = ("heard_ms", "spoke_ms")

    def __init__(self, now_ms: int) -> None:
        self.heard_ms = self.spoke_ms = now_ms

    def next_deadline_ms(self, owes: bool) -> int:
        """owes: an acknowledgement is due."""
        return min(self.spoke_ms + (ACK_MS if owes else SIGN_OF_LIFE_MS), self.heard_ms + SILENCE_MS)

    def is_silent(self, now_ms: int) -> bool:
        """Whether the other side must be lost."""
        return now_ms - self.heard_ms >= SILENCE_MS

    def is_due(self, now_ms: int, owes: bool) -> bool:
        """Whether to say something now."""
        quiet_ms = now_ms - self.spoke_ms
        return quiet_ms >= SIGN_OF_LIFE_MS or (owes and quiet_ms >= ACK_MS)
