"""Raylet ⇄ GCS: requests and replies of the GCS, by method name.

In one process they are passed as these structs; between processes as the protobuf messages of ``proto/gcs.proto`` with
the same field names (a test compares them). ``METHODS`` is the whole surface.
"""

from __future__ import annotations

import msgspec

from raybook.base.facts import Fact
from raybook.base.specs import ActorSpec, Endpoint, PlacementGroupSpec
from raybook.protocol.messages.output import WorkerLine
from raybook.protocol.messages.scaling import (
    AutoscalerReply,
    ClusterLoad,
    GetAutoscaler,
    GetClusterLoad,
    ReportAutoscaler,
    ShapeCount,
)
from raybook.protocol.messages.survey import Survey, SurveyReply


class NodeInfo(msgspec.Struct):
    """One node; amounts are fixed point. ``raylet_address`` serves its gRPC, ``socket_address`` its clients,
    ``gateway_address`` the raylets of other nodes ("" when it is the only one)."""

    node_id: bytes
    raylet_address: str = ""
    socket_address: str = ""
    hostname: str = ""
    ip: str = "127.0.0.1"
    pid: int = 0
    resources_total: dict[str, int] = {}
    resources_available: dict[str, int] = {}
    labels: dict[str, str] = {}
    is_head: bool = False
    alive: bool = True
    death_reason: str = ""
    gateway_address: str = ""
    draining: str = ""
    """Why it takes no new work and is about to leave; "" when it is not."""


class RegisterNode(msgspec.Struct):
    node: NodeInfo


class ReportNode(msgspec.Struct):
    """Heartbeat with the node's view of itself. ``demand``: what queues there and could run on a node that is yet to come.
    ``busy``: what keeps it from being idle. ``activity``: another number when it was busy since the last report.
    ``queued_actors``: placed there and waiting for room."""

    node_id: bytes
    resources_available: dict[str, int] = {}
    demand: list[ShapeCount] = []
    busy: str = ""
    activity: int = 0
    queued_actors: list[bytes] = []


class ListNodes(msgspec.Struct):
    pass


class DrainNode(msgspec.Struct):
    """Empty a node, then have it leave. reason: a name of ``core/node/drain``; message: for people. deadline_ms: from now
    on; at it the node leaves with whatever still runs there. -1: it takes as long as it takes."""

    node_id: bytes
    reason: str
    message: str = ""
    deadline_ms: int = -1


class DrainNodeReply(msgspec.Struct):
    """``accepted`` also for a node that is dead already. ``rejection``: why it was not."""

    accepted: bool
    rejection: str = ""


class UnregisterNode(msgspec.Struct):
    """raylet → GCS: this node leaves now, on purpose."""

    node_id: bytes
    reason: str = ""


class NodeList(msgspec.Struct):
    nodes: list[NodeInfo]


class WatchNodes(msgspec.Struct):
    """raylet → GCS: what has changed among the nodes since version ``since`` of the GCS ``epoch``? While nothing has, the
    answer is held back, ``hold_ms`` at most. amounts: also what nodes have free."""

    node_id: bytes
    epoch: bytes = b""
    since: int = 0
    hold_ms: int = 0
    amounts: bool = False


class FreeAmounts(msgspec.Struct):
    """What a node has free."""

    node_id: bytes
    available: dict[str, int] = {}


class NodesDelta(msgspec.Struct):
    """What has changed between two versions. ``nodes``: who joined or died. ``reset``: these are all there are, for
    instance because this GCS is another one. newest: when larger than ``version``, there are more amounts to tell."""

    epoch: bytes
    since: int
    version: int
    nodes: list[NodeInfo] = []
    amounts: list[FreeAmounts] = []
    reset: bool = False
    newest: int = 0


class RegisterJob(msgspec.Struct):
    job_id: bytes
    driver: Endpoint
    pid: int
    namespace: str = ""
    entrypoint: str = ""


class FinishJob(msgspec.Struct):
    """The driver left (or died): its actors that are not detached are killed."""

    job_id: bytes
    reason: str = ""


class ListJobs(msgspec.Struct):
    pass


class JobInfo(msgspec.Struct):
    """One row of the job table. ``ended_ms`` 0: its driver is still here."""

    job_id: bytes
    node_id: bytes
    pid: int
    namespace: str = ""
    entrypoint: str = ""
    started_ms: int = 0
    ended_ms: int = 0
    reason: str = ""


class JobList(msgspec.Struct):
    jobs: list[JobInfo]


class ListWorkers(msgspec.Struct):
    """The processes of every node that answers within a second."""


class WorkerRow(msgspec.Struct):
    """One worker process. ``state``: STARTING IDLE LEASED ACTOR EXITING."""

    node_id: bytes
    worker_id: bytes
    pid: int
    state: str
    assigned: dict[str, int] = {}
    actor_id: bytes = b""


class WorkerList(msgspec.Struct):
    workers: list[WorkerRow]


class OwnerGone(msgspec.Struct):
    """A process died: actors it owns are killed unless detached."""

    client_id: bytes
    reason: str = ""


class CreateActor(msgspec.Struct):
    """Registers the actor and starts placing it. Fails with ``ActorAlreadyExistsError`` on a taken name."""

    spec: ActorSpec
    get_if_exists: bool = False


class ActorCreated(msgspec.Struct):
    """``existing`` is set when get_if_exists found one: its spec without ``creation``."""

    existing: ActorSpec | None = None


class GetNamedActor(msgspec.Struct):
    name: str
    namespace: str


class ActorReply(msgspec.Struct):
    spec: ActorSpec | None


class ActorInfo(msgspec.Struct):
    """One row of the actor table."""

    actor_id: bytes
    class_name: str
    state: str
    name: str = ""
    namespace: str = ""
    job_id: bytes = b""
    node_id: bytes = b""
    endpoint: Endpoint | None = None
    pid: int = 0
    incarnation: int = 0
    restarts_left: int = 0
    death: str = ""
    death_payload: bytes = b""
    detached: bool = False
    waiting: str = ""
    """Why it is not placed yet, for people."""
    resources: dict[str, int] = {}
    death_code: str = ""
    """Exception class that calls raise when it is DEAD; "" for ActorDiedError."""
    moving: bool = False
    """Its node drains: this life takes no more calls, and the next one, elsewhere, takes those that wait."""


class ListActors(msgspec.Struct):
    pass


class ActorList(msgspec.Struct):
    actors: list[ActorInfo]


class KillActor(msgspec.Struct):
    actor_id: bytes
    no_restart: bool = True
    graceful: bool = False
    reason: str = ""


class ActorStateReport(msgspec.Struct):
    """raylet → GCS: what became of an actor placed on it. ``state``: ALIVE, or DEAD with a reason.
    ``intended``: it ended on purpose and is not restarted. ``creation_failed``: ``__init__`` raised."""

    actor_id: bytes
    incarnation: int
    state: str
    endpoint: Endpoint | None = None
    pid: int = 0
    reason: str = ""
    intended: bool = False
    creation_failed: bool = False
    payload: bytes = b""
    code: str = ""
    """Exception class that calls raise from now on; "" for ActorDiedError."""


class WatchActors(msgspec.Struct):
    """raylet → GCS: which actors this node's clients watch from now on (GCS pushes ``ActorInfo``)."""

    node_id: bytes
    actor_ids: list[bytes]
    watch: bool = True


class PlacementGroupInfo(msgspec.Struct):
    """One row of the placement group table. ``nodes``: for each bundle the node that holds it, b"" for none."""

    spec: PlacementGroupSpec
    state: str
    nodes: list[bytes] = []
    attempt: int = 0
    waiting: str = ""
    """Why it is not created yet, for people."""
    death: str = ""
    created_ms: int = 0
    infeasible: bool = False
    """It waits for what the nodes there are could never hold, even empty."""


class CreatePlacementGroup(msgspec.Struct):
    """Register a group and try to reserve it. The answer has its state at that moment: CREATED if all fitted at once."""

    spec: PlacementGroupSpec


class RemovePlacementGroup(msgspec.Struct):
    """Give it back, and end whatever runs in it. Nothing happens to a group that is unknown or removed."""

    group_id: bytes
    reason: str = ""


class GetPlacementGroup(msgspec.Struct):
    """One group: by id, or (id b"") by name, which finds no removed ones."""

    group_id: bytes = b""
    name: str = ""
    namespace: str = ""


class GetPlacementGroups(msgspec.Struct):
    pass


class WaitPlacementGroup(msgspec.Struct):
    """Answered when the group is CREATED or REMOVED, or after ``timeout_ms`` with what it is then."""

    group_id: bytes
    timeout_ms: int = 0


class PlacementGroupReply(msgspec.Struct):
    group: PlacementGroupInfo | None = None


class PlacementGroupList(msgspec.Struct):
    groups: list[PlacementGroupInfo]


ARCHIVES_NAMESPACE = "_archives"
"""Of the key-value table: an archive's address → ``ArchivePieces``, address#n → its n-th piece."""


class ArchivePieces(msgspec.Struct):
    """An archive (``io/archives``) is there, whole."""

    pieces: int
    total_bytes: int


class KvPut(msgspec.Struct):
    namespace: str
    key: bytes
    value: bytes
    overwrite: bool = True


class KvGet(msgspec.Struct):
    namespace: str
    key: bytes


class KvDelete(msgspec.Struct):
    namespace: str
    key: bytes


class KvKeys(msgspec.Struct):
    namespace: str
    prefix: bytes = b""


class KvReply(msgspec.Struct):
    """``added``: put created the key, or delete removed it. ``value`` None: absent."""

    value: bytes | None = None
    added: bool = False
    keys: list[bytes] = []


class AddFacts(msgspec.Struct):
    facts: list[Fact]


class PublishLines(msgspec.Struct):
    """Lines that workers printed for drivers on other nodes. Those of jobs that have ended are dropped."""

    lines: list[WorkerLine]


class GetFacts(msgspec.Struct):
    """One delta now (polling form; ``SubscribeFacts`` streams)."""

    since_version: int = 0


class FactsReply(msgspec.Struct):
    since: int
    version: int
    facts: list[Fact]
    reset: bool = False


class ClusterStatus(msgspec.Struct):
    pass


class ClusterStatusReply(msgspec.Struct):
    cluster_id: bytes
    started_ms: int
    nodes: list[NodeInfo]
    actors_alive: int
    jobs: int
    waiting: list[str] = []
    """Why pending work cannot run, one line each."""


class StopCluster(msgspec.Struct):
    reason: str = ""


class SetLife(msgspec.Struct):
    """How long the cluster lives. changes_owner: it ends with this process from now on, and with none when the pid is 0.
    idle_timeout_s: it ends when nothing has worked on it for so long; 0: never, -1: as it is."""

    changes_owner: bool = False
    owner_pid: int = 0
    owner_start_time: int = 0
    kernel_id: str = ""
    idle_timeout_s: float = -1.0


class LifeReply(msgspec.Struct):
    """idle_since_ms: 0 while something works on it, or where nobody asked for a timeout."""

    persist: bool
    kernel_id: str = ""
    idle_timeout_s: float = 0.0
    idle_since_ms: int = 0


class Empty(msgspec.Struct):
    pass


METHODS: dict[str, tuple[type, type]] = {
    "RegisterNode": (RegisterNode, Empty),
    "ReportNode": (ReportNode, Empty),
    "ListNodes": (ListNodes, NodeList),
    "WatchNodes": (WatchNodes, NodesDelta),
    "DrainNode": (DrainNode, DrainNodeReply),
    "UnregisterNode": (UnregisterNode, Empty),
    "RegisterJob": (RegisterJob, Empty),
    "FinishJob": (FinishJob, Empty),
    "ListJobs": (ListJobs, JobList),
    "ListWorkers": (ListWorkers, WorkerList),
    "Survey": (Survey, SurveyReply),
    "OwnerGone": (OwnerGone, Empty),
    "CreateActor": (CreateActor, ActorCreated),
    "GetNamedActor": (GetNamedActor, ActorReply),
    "ListActors": (ListActors, ActorList),
    "KillActor": (KillActor, Empty),
    "ActorStateReport": (ActorStateReport, Empty),
    "WatchActors": (WatchActors, ActorList),
    "CreatePlacementGroup": (CreatePlacementGroup, PlacementGroupReply),
    "RemovePlacementGroup": (RemovePlacementGroup, Empty),
    "GetPlacementGroup": (GetPlacementGroup, PlacementGroupReply),
    "GetPlacementGroups": (GetPlacementGroups, PlacementGroupList),
    "WaitPlacementGroup": (WaitPlacementGroup, PlacementGroupReply),
    "KvPut": (KvPut, KvReply),
    "KvGet": (KvGet, KvReply),
    "KvDelete": (KvDelete, KvReply),
    "KvKeys": (KvKeys, KvReply),
    "AddFacts": (AddFacts, Empty),
    "PublishLines": (PublishLines, Empty),
    "GetFacts": (GetFacts, FactsReply),
    "ClusterStatus": (ClusterStatus, ClusterStatusReply),
    "StopCluster": (StopCluster, Empty),
    "SetLife": (SetLife, LifeReply),
    "GetClusterLoad": (GetClusterLoad, ClusterLoad),
    "ReportAutoscaler": (ReportAutoscaler, Empty),
    "GetAutoscaler": (GetAutoscaler, AutoscalerReply),
}
