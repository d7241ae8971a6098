"""Who wants to hear of which actor, and how long an actor that nobody has created yet is waited for.

A handle may travel faster than the creation of its actor: a watcher that comes first waits ``UNHEARD_MS`` for it.
Invariants: an actor is unheard of or known, never both; deadlines are in the order of their making.
"""

from __future__ import annotations

from collections.abc import Container

UNHEARD_MS = 5_000
"""A creation and a handle take different ways here; five seconds apart means that one of them is lost."""


class ActorWatchers:
    """Nodes by watched actor. Dictionaries stand in for ordered sets."""

    def __init__(self) -> None:
        self._nodes: dict[bytes, dict[bytes, None]] = {}
        self._unheard: dict[bytes, int] = {}

    def add(self, actor_id: bytes, node_id: bytes, known: bool, now_ms: int) -> None:
        """A node watches from now on. ``known``: the actor exists or has existed."""
        self._nodes.setdefault(actor_id, {})[node_id] = None
        if not known:
            self._unheard.setdefault(actor_id, now_ms + UNHEARD_MS)

    def remove(self, actor_id: bytes, node_id: bytes) -> None:
        """It looks away. Idempotent."""
        nodes = self._nodes.get(actor_id)
        if nodes is not None:
            nodes.pop(node_id, None)
            if not nodes:
                del self._nodes[actor_id]

    def of(self, actor_id: bytes) -> tuple[bytes, ...]:
        """The nodes to tell."""
        return tuple(self._nodes.get(actor_id, ()))

    def heard_of(self, actor_id: bytes) -> None:
        """The actor exists now."""
        self._unheard.pop(actor_id, None)

    def is_unheard(self, actor_id: bytes) -> bool:
        """Watched, and its creation may still come."""
        return actor_id in self._unheard

    def forget_actor(self, actor_id: bytes) -> None:
        self._nodes.pop(actor_id, None)

    def forget_node(self, node_id: bytes) -> None:
        """A node is gone. Cost: one pass over the watched actors."""
        for actor_id in list(self._nodes):
            self.remove(actor_id, node_id)

    def next_deadline_ms(self) -> int | None:
        # All wait equally long, so the dictionary's order is the order of deadlines.
        return next(iter(self._unheard.values()), None)

    def give_up(self, now_ms: int) -> list[tuple[bytes, tuple[bytes, ...]]]:
        """Actors whose creation has not come in time, with the nodes that wait for it; they are watched no more."""
        given_up = []
        while (deadline_ms := self.next_deadline_ms()) is not None and deadline_ms <= now_ms:
            actor_id = next(iter(self._unheard))
            del self._unheard[actor_id]
            given_up.append((actor_id, tuple(self._nodes.pop(actor_id, ()))))
        return given_up

    def check_invariants(self, known: Container[bytes]) -> None:
        for actor_id in self._unheard:
            assert actor_id not in known, f"Actor {actor_id.hex()} is known and unheard of."
        deadlines = list(self._unheard.values())
        assert deadlines == sorted(deadlines), "Deadlines are out of order."
        assert all(self._nodes.values()), "An actor is watched by nobody."
