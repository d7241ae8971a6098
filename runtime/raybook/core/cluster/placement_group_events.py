"""What the placement group table is told and what it asks for: its events (past tense) and effects (verbs)."""

from __future__ import annotations

import msgspec

from raybook.base.resources import Shape
from raybook.base.specs import PlacementGroupSpec


class GroupRequested(msgspec.Struct, frozen=True, gc=False):
    """Somebody wants a group. ``request`` names the question, so that its answer finds the way back."""

    request: int
    spec: PlacementGroupSpec


class RemovalRequested(msgspec.Struct, frozen=True, gc=False):
    group_id: bytes
    reason: str = ""


class PrepareAnswered(msgspec.Struct, frozen=True, gc=False):
    """A node reserved its bundles of one attempt, or could not."""

    group_id: bytes
    attempt: int
    node_id: bytes
    accepted: bool
    reason: str = ""


class RoomChanged(msgspec.Struct, frozen=True):
    """A node joined or reported, or something was given back: what waits tries again. node_id: the only node that has more
    room than before; b"": any may."""

    node_id: bytes = b""


class GroupNodeLost(msgspec.Struct, frozen=True):
    node_id: bytes
    reason: str = ""


class CreatorActorDied(msgspec.Struct, frozen=True):
    actor_id: bytes
    reason: str = ""


class GroupJobEnded(msgspec.Struct, frozen=True):
    job_id: bytes
    reason: str = ""


class PrepareOn(msgspec.Struct, frozen=True, gc=False):
    """Reserve these bundles on the node, all or none; answer with PrepareAnswered. ``commit``: it is the only node of the
    attempt, so that what it reserves may be used at once."""

    node_id: bytes
    group_id: bytes
    attempt: int
    bundles: tuple[tuple[int, Shape], ...]
    commit: bool


class CommitOn(msgspec.Struct, frozen=True, gc=False):
    """All nodes have reserved: the bundles of this attempt may be used."""

    node_id: bytes
    group_id: bytes
    attempt: int


class ReturnOn(msgspec.Struct, frozen=True, gc=False):
    """Give back these bundles as far as they were reserved by this attempt or an earlier one. ``removed``: the group is
    gone for good, and so is whatever runs or waits in it."""

    node_id: bytes
    group_id: bytes
    attempt: int
    bundles: tuple[tuple[int, Shape], ...]
    removed: bool
    reason: str = ""


class PublishGroup(msgspec.Struct, frozen=True, gc=False):
    """The group's row changed: tell whoever waits for it or looks. ``turned``: into CREATED or REMOVED."""

    group_id: bytes
    turned: bool = False


class PersistGroup(msgspec.Struct, frozen=True, gc=False):
    """Write the group's record down before anything after this effect becomes visible."""

    group_id: bytes


class ForgetGroup(msgspec.Struct, frozen=True, gc=False):
    """The oldest removed groups leave the table and the store."""

    group_id: bytes


class AnswerGroup(msgspec.Struct, frozen=True, gc=False):
    request: int


class RefuseGroup(msgspec.Struct, frozen=True, gc=False):
    """``code`` is the exception class that the creator raises."""

    request: int
    code: str
    text: str
