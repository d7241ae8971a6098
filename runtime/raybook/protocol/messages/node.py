"""GCS → raylet: requests of the raylet's control service, by method name (see messages/gcs for the two forms)."""

from __future__ import annotations

import msgspec

from raybook.base.specs import ActorSpec
from raybook.protocol.messages.gcs import ActorInfo, Empty
from raybook.protocol.messages.output import WorkerLine
from raybook.protocol.messages.survey import NodeSurvey, SurveyNode


class PlaceActor(msgspec.Struct):
    """Queue this actor here: reserve its resources, lease a worker, run ``__init__``; report by ActorStateReport."""

    spec: ActorSpec
    incarnation: int
    restarts: int = 0


class PlaceActorReply(msgspec.Struct):
    """``accepted`` false: this node can never hold it (or is draining); ``reason`` says why."""

    accepted: bool
    reason: str = ""


class StopActor(msgspec.Struct):
    """End an actor's worker, or take it out of the queue. ``graceful``: after its queued calls."""

    actor_id: bytes
    incarnation: int
    graceful: bool = False
    reason: str = ""


class RecallActor(msgspec.Struct):
    """Another node has room: give an actor back that still queues here."""

    actor_id: bytes
    incarnation: int


class RecallActorReply(msgspec.Struct):
    """``recalled`` false: it has begun, or is not here."""

    recalled: bool


class PlacedBundle(msgspec.Struct):
    """A bundle of a placement group, by its index in the group."""

    index: int
    shape: dict[str, int]


class PrepareBundles(msgspec.Struct):
    """Reserve these bundles of a placement group, all or none. ``commit``: they may be used at once."""

    group_id: bytes
    attempt: int
    bundles: list[PlacedBundle]
    commit: bool = False


class PrepareBundlesReply(msgspec.Struct):
    accepted: bool
    reason: str = ""


class CommitBundles(msgspec.Struct):
    """Every node has prepared: the bundles of this attempt may be used."""

    group_id: bytes
    attempt: int


class ReturnBundles(msgspec.Struct):
    """Give back bundles that this attempt or an earlier one reserved. ``removed``: the group is gone for good; tasks that
    run or wait in it fail with ``reason``."""

    group_id: bytes
    attempt: int
    indices: list[int]
    removed: bool = False
    reason: str = ""


class ReturnBundlesReply(msgspec.Struct):
    """``free``: nothing runs in them any more; else their resources come free when the last process has ended."""

    free: bool


class ActorChanged(msgspec.Struct):
    """An actor that clients of this node watch has a new state."""

    actor: ActorInfo


class DeliverLines(msgspec.Struct):
    """Workers of other nodes printed this for drivers here."""

    lines: list[WorkerLine]


class SetObserved(msgspec.Struct):
    """Somebody looks at the cluster, or nobody any more."""

    active: bool


class StopNode(msgspec.Struct):
    reason: str = ""


class DrainRaylet(msgspec.Struct):
    """Take no new work, and leave when you are empty, or at the deadline; fields as in ``DrainNode``."""

    reason: str
    message: str = ""
    deadline_ms: int = -1


class DrainRayletReply(msgspec.Struct):
    """``draining``: what it does now, for people."""

    accepted: bool
    rejection: str = ""
    draining: str = ""


class GcsMoved(msgspec.Struct):
    """A GCS that was started anew speaks: it is at this host:port from now on; "": where it was."""

    address: str = ""


class GetNodeStats(msgspec.Struct):
    pass


class WorkerInfo(msgspec.Struct):
    """One worker process of a node."""

    worker_id: bytes
    pid: int
    state: str
    """STARTING IDLE LEASED ACTOR EXITING"""
    assigned: dict[str, int] = {}
    actor_id: bytes = b""


class NodeStats(msgspec.Struct):
    workers: list[WorkerInfo]
    store_used_bytes: int
    store_capacity_bytes: int
    waiting: list[str] = []
    """Why queued requests cannot run, one line each."""
    transfers: dict[str, int] = {}
    """Objects that came from other nodes and went there, as the transfer service counts them; empty where there are none."""


METHODS: dict[str, tuple[type, type]] = {
    "PlaceActor": (PlaceActor, PlaceActorReply),
    "StopActor": (StopActor, Empty),
    "RecallActor": (RecallActor, RecallActorReply),
    "PrepareBundles": (PrepareBundles, PrepareBundlesReply),
    "CommitBundles": (CommitBundles, Empty),
    "ReturnBundles": (ReturnBundles, ReturnBundlesReply),
    "ActorChanged": (ActorChanged, Empty),
    "DeliverLines": (DeliverLines, Empty),
    "SetObserved": (SetObserved, Empty),
    "StopNode": (StopNode, Empty),
    "DrainRaylet": (DrainRaylet, DrainRayletReply),
    "GcsMoved": (GcsMoved, Empty),
    "GetNodeStats": (GetNodeStats, NodeStats),
    "SurveyNode": (SurveyNode, NodeSurvey),
}
