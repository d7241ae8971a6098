"""Links: what a reference or a handle of raybook holds when the engine is Ray: Ray's own, so that Ray counts it.

It stands where other engines have the owner's address, and is pickled with the reference. Ray's pickler finds its own
reference inside and does what it does for its own: counts borrowers, keeps the object, ends the actor.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

WORKER_MODULE = "raybook.ray_process"
"""Composition root of a Ray worker: what makes raybook's verbs work there."""


class Link(str):
    """Says "ray" to whoever asks for an address. held: Ray's ObjectRef, or its handle of an actor."""

    __slots__ = ("__weakref__", "held")
    held: Any

    def __new__(cls, held: Any) -> Link:
        link = super().__new__(cls, "ray")
        link.held = held
        return link

    def __reduce__(self) -> tuple[Any, ...]:
        return rebuild_link, (self.held,)


def rebuild_link(held: Any) -> Link:
    """The other end. References are rebuilt before any code of the task runs, so the engine is made here."""
    import_module(WORKER_MODULE).ensure_engine()
    return Link(held)


def held_by(ref: Any) -> Any:
    """Ray's reference of one of raybook's; None for one that has none (an item of a stream)."""
    link = getattr(ref, "owner_address", None)
    return link.held if isinstance(link, Link) else None
