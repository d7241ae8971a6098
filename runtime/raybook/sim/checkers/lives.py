"""Lives: once a newer life of an actor executes calls, an older one does not, as soon as its node can have heard of it.

A node that is cut off from the GCS cannot be told, and goes on until it can; so does everybody while the GCS is away. That
is what the time after the later of these is for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from raybook.sim.checkers.violation import Violation

if TYPE_CHECKING:
    from raybook.sim.process import Process
    from raybook.sim.world import World

FENCE_MS = 3_000
"""A report a second tells a node that it is held for dead, and a stop order is tried every fifth of a second."""


class Lives:
    """One per world."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._newest: dict[bytes, tuple[int, int]] = {}
        """Actor → (its newest life that has executed a call, since when)."""

    def begins(self, process: Process, actor_id: bytes, life: int) -> None:
        """A call is about to run in this life."""
        now_ms = self._world.timeline.now_ms
        newest, since_ms = self._newest.get(actor_id, (-1, 0))
        if life > newest:
            self._newest[actor_id] = (life, now_ms)
        elif life < newest:
            told_ms = max(since_ms, self._world.faults.out_of_reach_until_ms(process.node.node_id))
            if now_ms > told_ms + FENCE_MS:
                text = (
                    f"life {life} of actor {actor_id.hex()} executes a call on {process.node.name} at {now_ms} ms, "
                    f"and life {newest} has done so since {since_ms} ms"
                )
                raise Violation("lives", text, actor_id)
