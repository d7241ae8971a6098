"""Driver or worker ⇄ its raylet, over one framed Unix socket for each process.

Order of a conversation: the raylet's challenge, the client's proof, ``Register``, ``Registered`` (the arena's file
descriptor rides with it), then anything. Every message is one-way; those that expect an answer carry a number that the
answer repeats.
"""

from __future__ import annotations

import msgspec

from raybook.base.config import Config
from raybook.base.facts import Fact
from raybook.base.specs import ActorSpec, Assignment, Endpoint, Location, SchedulingClass
from raybook.protocol.messages.output import FlushOutput, OutputFlushed, WorkerLines
from raybook.protocol.messages.store import (
    DeleteSpilled,
    ExtentGranted,
    ExtentRefused,
    FreeRegions,
    ObjectsSpilled,
    RecallAnswered,
    RecallIdle,
    ReclaimAck,
    ReclaimQuery,
    RegionsFreed,
    RequestExtent,
    ReturnExtent,
    Sealed,
    SpillDone,
    SpillObjects,
    SpillWanted,
)
from raybook.protocol.messages.survey import SurveyAnswer, SurveyQuery


class Register(msgspec.Struct, tag=1, array_like=True):
    """client → raylet, first message. ``kind``: "driver" or "worker"."""

    client_id: bytes
    kind: str
    pid: int
    start_time: int
    """Field 22 of /proc/PID/stat: with the pid it names one process for ever."""
    address: str
    job_id: bytes
    protocol_version: int
    python_version: str
    namespace: str = ""
    kernel_id: str = ""
    entrypoint: str = ""
    wants_output: bool = False
    """A driver's: send it what its workers print."""
    raybook_version: str = ""


class Registered(msgspec.Struct, tag=2, array_like=True):
    """raylet → client: welcome. The arena's descriptor comes with this frame (SCM_RIGHTS)."""

    node_id: bytes
    cluster_id: bytes
    job_id: bytes
    session_dir: str
    gcs_address: str
    arena_bytes: int
    config: Config
    node_ip: str = "127.0.0.1"
    observed: bool = False


class Refused(msgspec.Struct, tag=3, array_like=True):
    """raylet → client: cannot be served (version, token, shutting down); the connection closes after it."""

    reason: str


class SetDemand(msgspec.Struct, tag=4, array_like=True):
    """client → raylet: how many leases of this class the owner could use *in addition* to those it holds. Replaces the
    earlier number for the class; 0 withdraws. ``class_key`` is the client's own short number for the class."""

    class_key: int
    scheduling_class: SchedulingClass
    count: int
    name: str = ""


class LeaseGranted(msgspec.Struct, tag=5, array_like=True):
    """raylet → client: a worker is yours for tasks of this class until you return it or it is revoked. Lowers the
    standing demand of the class by one. ``epoch`` grows by one each time this worker is leased."""

    class_key: int
    lease_id: int
    epoch: int
    worker: Endpoint
    assignment: Assignment
    worker_pid: int = 0


class ReturnLease(msgspec.Struct, tag=6, array_like=True):
    """client → raylet: done with it. ``worker_broken``: nothing can be sent to it, and nobody said that it died; end it."""

    lease_id: int
    worker_broken: bool = False


class LeaseLost(msgspec.Struct, tag=7, array_like=True):
    """raylet → client: the lease is gone. ``died`` false: revoked while idle. ``died`` true: the process ended;
    ``reason`` is for people (signal, exit code, last stderr lines)."""

    lease_id: int
    died: bool
    reason: str = ""
    exit_code: int = 0
    out_of_memory: bool = False
    code: str = ""
    """Exception class that the running task fails with, without another try; "" when it died like any worker."""


class DemandInfeasible(msgspec.Struct, tag=8, array_like=True):
    """raylet → client: no node of the cluster could ever serve this class; it stays queued. For people."""

    class_key: int
    text: str


class RevokeLease(msgspec.Struct, tag=9, array_like=True):
    """raylet → worker: stop serving ``epoch`` if nothing of it is running. Pushes of this or an older epoch bounce
    from now on if the worker agrees. ``drain``: others have waited long; bounce what has not started, and answer that
    you are idle as soon as the running task has ended (or at once that you are not, if you cannot)."""

    epoch: int
    drain: bool = False


class RevokeAnswer(msgspec.Struct, tag=10, array_like=True):
    """worker → raylet: ``idle`` true: agreed, epoch is dead. False: a task of it is running or queued."""

    epoch: int
    idle: bool


class Blocked(msgspec.Struct, tag=11, array_like=True):
    """worker → raylet: its task waits in get or wait: its CPU (not GPU, not memory) may serve others meanwhile."""


class Unblocked(msgspec.Struct, tag=12, array_like=True):
    """worker → raylet: the wait is over; the CPU is taken back at once, if need be beyond the total for a moment."""


class StartActor(msgspec.Struct, tag=13, array_like=True):
    """raylet → worker: become this actor. ``restarts`` counts earlier lives."""

    spec: ActorSpec
    assignment: Assignment
    restarts: int = 0


class ActorStarted(msgspec.Struct, tag=14, array_like=True):
    """worker → raylet: the actor's ``__init__`` ended. ``error`` is a pickled exception, b"" when it went well."""

    actor_id: bytes
    error: bytes = b""
    error_text: str = ""
    repr: str = ""


class ExitWorker(msgspec.Struct, tag=15, array_like=True):
    """raylet → worker: end. ``graceful``: after the queued work, running atexit hooks; else at once."""

    reason: str
    graceful: bool = True


class WorkerExiting(msgspec.Struct, tag=16, array_like=True):
    """worker → raylet: it is about to end on purpose (exit_actor, max_calls); no restart, not a crash. stays: only when
    nobody needs its objects any more; it takes no work until then, and holds no resources."""

    reason: str
    stays: bool = False


class GcsCall(msgspec.Struct, tag=17, array_like=True):
    """client → raylet: call a GCS method by name (see messages/gcs); ``request`` is its encoded struct."""

    call_id: int
    method: str
    request: bytes


class GcsReply(msgspec.Struct, tag=18, array_like=True):
    """raylet → client: the answer, or ``error_code`` (an exception class name) and text."""

    call_id: int
    reply: bytes = b""
    error_code: str = ""
    error_text: str = ""


class WatchActor(msgspec.Struct, tag=19, array_like=True):
    """client → raylet: tell me about this actor now and at every change, until I unwatch."""

    actor_id: bytes
    watch: bool = True


class ActorUpdate(msgspec.Struct, tag=20, array_like=True):
    """raylet → client: the actor's state (base/facts names). ``endpoint`` is set while ALIVE. ``incarnation`` grows
    with each restart. ``death`` tells why when DEAD; ``death_payload``: pickled exception of a failed ``__init__``."""

    actor_id: bytes
    state: str
    endpoint: Endpoint | None = None
    incarnation: int = 0
    restarts_left: int = 0
    death: str = ""
    death_payload: bytes = b""
    pid: int = 0
    death_code: str = ""
    """Exception class of calls when DEAD; "" for ActorDiedError."""
    moving: bool = False
    """Its node drains: send nothing more to this life; what waits is for the next one."""


class PublishFacts(msgspec.Struct, tag=21, array_like=True):
    """client → raylet: rows for the cluster's event table."""

    facts: list[Fact]


class Observed(msgspec.Struct, tag=22, array_like=True):
    """raylet → client: somebody looks (or nobody any more): send task facts, or stop. Actor and trial facts always
    go out; they are few."""

    active: bool


class Subscribe(msgspec.Struct, tag=23, array_like=True):
    """client → raylet: send me ``FactsDelta`` messages from ``since_version`` on (0: a snapshot first), ≤ 4 Hz."""

    since_version: int = 0
    active: bool = True


class FactsDelta(msgspec.Struct, tag=24, array_like=True):
    """raylet → client: changed rows of the event table."""

    since: int
    version: int
    facts: list[Fact]
    reset: bool = False


class ActorDown(msgspec.Struct, tag=25, array_like=True):
    """client → raylet: ``ray.kill`` or the last handle went: end this actor. ``graceful``: after submitted calls."""

    actor_id: bytes
    no_restart: bool = True
    graceful: bool = False


class LeaseProbe(msgspec.Struct, tag=26, array_like=True):
    """raylet → worker: are you idle right now? Asked before resources are reported, so that warm leases count as
    available."""

    probe_id: int


class LeaseProbeAnswer(msgspec.Struct, tag=27, array_like=True):
    """worker → raylet: whether nothing runs or waits here."""

    probe_id: int
    idle: bool


class Stop(msgspec.Struct, tag=28, array_like=True):
    """driver → raylet: end the whole (embedded) cluster now; the head answers by closing the connection."""

    reason: str = ""


class DemandRefused(msgspec.Struct, tag=29, array_like=True):
    """raylet → client: this class will never run (its placement group was removed, its node is dead): its queued tasks
    fail with the exception class ``code``. The demand is withdrawn."""

    class_key: int
    code: str
    text: str


class NodeGone(msgspec.Struct, tag=30, array_like=True):
    """raylet → client: this node is dead, and with it what lay there and who lived there: the processes whose addresses
    have this ``home`` (``io/peer_address``)."""

    node_id: bytes
    reason: str
    home: str = ""


class FetchObject(msgspec.Struct, tag=31, array_like=True):
    """client → raylet: I want to read this object, which lies on another node. Answered by ``ObjectFetched``, perhaps after
    a ``FetchDelayed``; the client refers to it until then at least."""

    request_id: int
    object_id: bytes
    location: Location


class ObjectFetched(msgspec.Struct, tag=32, array_like=True):
    """raylet → client: a copy lies at ``offset`` of this node's arena, yours to read until you say ``DropCopies``. -1:
    there is none; ``reason`` is for people. ``code``: the exception class, where it is not that the object is lost."""

    request_id: int
    offset: int
    reason: str = ""
    code: str = ""


class DropCopies(msgspec.Struct, tag=33, array_like=True):
    """client → raylet: I use these copies no longer, of objects that lie on other nodes."""

    object_ids: list[bytes]


class NodeDraining(msgspec.Struct, tag=70, array_like=True):
    """raylet → client: this node is about to leave: move away what of yours lies there."""

    node_id: bytes


class TakeObject(msgspec.Struct, tag=71, array_like=True):
    """owner → its raylet: an object of mine lies on a node that drains. Bring it here, and let it be mine here: sealed in
    this node's arena like a result. Answered by ``ObjectTaken``."""

    object_id: bytes
    location: Location


class ObjectTaken(msgspec.Struct, tag=72, array_like=True):
    """raylet → owner: it lies at ``offset`` of this node's arena, and is yours to free. -1: it does not; ``reason`` is for
    people."""

    object_id: bytes
    offset: int
    reason: str = ""


class FetchDelayed(msgspec.Struct, tag=34, array_like=True):
    """raylet → client: why a fetch waits, for people."""

    request_id: int
    reason: str


class RecallCopies(msgspec.Struct, tag=35, array_like=True):
    """raylet → client: room is short; say ``DropCopies`` of those that nothing of yours looks at, then
    ``CopiesRecalled``."""

    recall_id: int


class CopiesRecalled(msgspec.Struct, tag=36, array_like=True):
    """client → raylet: what I could spare was dropped before this."""

    recall_id: int


RayletMessage = (
    Register
    | Registered
    | Refused
    | SetDemand
    | LeaseGranted
    | ReturnLease
    | LeaseLost
    | DemandInfeasible
    | DemandRefused
    | NodeGone
    | FetchObject
    | ObjectFetched
    | DropCopies
    | NodeDraining
    | TakeObject
    | ObjectTaken
    | FetchDelayed
    | RecallCopies
    | CopiesRecalled
    | RevokeLease
    | RevokeAnswer
    | Blocked
    | Unblocked
    | StartActor
    | ActorStarted
    | ExitWorker
    | WorkerExiting
    | GcsCall
    | GcsReply
    | WatchActor
    | ActorUpdate
    | PublishFacts
    | Observed
    | Subscribe
    | FactsDelta
    | ActorDown
    | LeaseProbe
    | LeaseProbeAnswer
    | Stop
    | RequestExtent
    | ExtentGranted
    | ExtentRefused
    | ReturnExtent
    | Sealed
    | FreeRegions
    | RegionsFreed
    | ReclaimQuery
    | ReclaimAck
    | RecallIdle
    | RecallAnswered
    | SpillWanted
    | SpillObjects
    | ObjectsSpilled
    | SpillDone
    | DeleteSpilled
    | WorkerLines
    | FlushOutput
    | OutputFlushed
    | SurveyQuery
    | SurveyAnswer
)
