"""Rolling update: how many replicas to start and which to stop in one step, so that the deployment keeps serving.

It sees counts and versions, not actors. New replicas start first where the cluster has room for them (`has_room`), at most
a batch at a time, and an old one is stopped only when a new one runs in its place: a new version whose constructor raises
or hangs never takes the old one down. Without room, old ones make it, a batch at a time, as Ray does always.
Invariant: serving replicas never drop below target - batch on purpose.
"""

from __future__ import annotations

import math

import msgspec


class Census(msgspec.Struct, frozen=True):
    """How many replicas there are, by what they are good for. Stopping ones are not among them."""

    target: int
    starting: int
    """Of the new version."""
    running: int
    old_running: int
    old_starting: int


class Step(msgspec.Struct, frozen=True):
    """What to do now."""

    start: int = 0
    stop_new: int = 0
    stop_old: int = 0
    """Running ones; those of the old version that still start are stopped in any case."""


def batch_of(target: int, fraction: float, surge_percent: int) -> int:
    """How many replicas one step of an update may replace."""
    return max(1, int(target * fraction), math.ceil(target * surge_percent / 100))


def plan_step(census: Census, batch: int, has_room: bool) -> Step:
    """The next step. batch: from `batch_of`; has_room: whether the cluster could place one more replica now."""
    new = census.starting + census.running
    if not census.old_running:
        if new > census.target:
            return Step(stop_new=new - census.target)
        return Step(start=census.target - new)
    # Old ones that are too many beside those new ones that serve already go at once.
    surplus = census.running + census.old_running - census.target
    stop_old = max(0, min(surplus, census.old_running))
    missing = census.target - new
    if missing <= 0:
        return Step(stop_new=max(0, new - census.target), stop_old=stop_old)
    old_left = census.old_running - stop_old
    if new == 0 and old_left == 0:
        return Step(start=census.target, stop_old=stop_old)
    # What may exist at once: the target, and a batch beside it.
    slots = census.target + (batch if has_room else 0) - (new + old_left)
    if slots > 0:
        return Step(start=min(missing, slots), stop_old=stop_old)
    if not has_room and not census.starting:
        return Step(stop_old=max(stop_old, min(batch, census.old_running)))
    return Step(stop_old=stop_old)
