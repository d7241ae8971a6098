"""Named actors: which names can be looked up."""

from __future__ import annotations

from raybook.api import get_runtime_context, list_actors
from raybook.base.facts import ACTOR_DEAD


def list_named_actors(all_namespaces: bool = False) -> list[str] | list[dict[str, str]]:
    """The names of all living named actors of this namespace; with ``all_namespaces`` a list of
    ``{"name": ..., "namespace": ...}``. One round trip."""
    named = [actor for actor in list_actors() if actor["name"] and actor["state"] != ACTOR_DEAD]
    if all_namespaces:
        return [{"name": actor["name"], "namespace": actor["ray_namespace"]} for actor in named]
    here = get_runtime_context().namespace
    return [actor["name"] for actor in named if actor["ray_namespace"] == here]
