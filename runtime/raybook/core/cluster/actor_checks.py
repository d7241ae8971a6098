"""Actor checks: what must hold between the books of the actor table at any time, and its figures. Changes nothing."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import msgspec

from raybook.base.facts import ACTOR_ALIVE, ACTOR_DEAD, ACTOR_PENDING, ACTOR_RESTARTING
from raybook.core.cluster.actor_record import RESTARTS_FOREVER, ActorRecord, label_of


class ActorStatistics(msgspec.Struct, frozen=True):
    """How many actors are in which state, and how many names are taken."""

    pending: int
    alive: int
    restarting: int
    dead: int
    names: int


def count_states(actors: Iterable[ActorRecord], names: int) -> ActorStatistics:
    """One pass over all actors."""
    states = [actor.state for actor in actors]
    return ActorStatistics(
        states.count(ACTOR_PENDING),
        states.count(ACTOR_ALIVE),
        states.count(ACTOR_RESTARTING),
        states.count(ACTOR_DEAD),
        names,
    )


def check_books(
    actors: Mapping[bytes, ActorRecord],
    names: Mapping[tuple[str, str], bytes],
    on_node: Mapping[bytes, Mapping[bytes, None]],
    unplaced: Mapping[bytes, None],
    dead: Mapping[bytes, None],
) -> None:
    """AssertionError naming the first actor of which the books disagree. Cost: one pass over all actors."""
    for (namespace, name), actor_id in names.items():
        actor = actors[actor_id]
        assert actor.state != ACTOR_DEAD, f"The dead actor {label_of(actor.spec)} still has a name."
        assert (actor.spec.namespace, actor.spec.name) == (namespace, name), f"{name} names another actor."
    for actor_id, actor in actors.items():
        label = label_of(actor.spec)
        is_dead = actor.state == ACTOR_DEAD
        assert (actor_id in dead) == is_dead, f"{label} is {actor.state} but filed otherwise."
        placed = actor_id in on_node.get(actor.node_id, {})
        waits = actor_id in unplaced
        assert is_dead != (placed or waits), f"{label} is {actor.state}; placed: {placed}, waiting: {waits}."
        assert not (placed and waits), f"{label} waits for a node and has one."
        assert actor.state != ACTOR_ALIVE or placed, f"{label} is ALIVE nowhere."
        limit = actor.spec.max_restarts
        assert limit == RESTARTS_FOREVER or actor.restarts_used <= limit, f"{label} lived too often."
        assert actor.restarts_used <= actor.incarnation, f"{label} restarted without a new incarnation."
