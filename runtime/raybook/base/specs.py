"""Specs: what is asked of the cluster, as records that cross process boundaries.

All are msgspec structs, array-like on the wire (new fields only at the end, with defaults), ``gc=False`` where they
are made by the hundred thousand. User values inside them are already bytes (``protocol/serialization``).
"""

from __future__ import annotations

import msgspec

PROTOCOL_VERSION = 1
"""Raised on every incompatible change of a message or spec; other versions are refused, with both numbers."""


class Endpoint(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """Where a process listens for framed messages. ``address`` is ``unix:/path`` or ``tcp:host:port``."""

    client_id: bytes
    node_id: bytes
    address: str


class RefInfo(msgspec.Struct, array_like=True, gc=False):
    """A reference on the move: which object, and where its owner listens ("" means: the sender of this message)."""

    object_id: bytes
    owner_address: str = ""


class Location(msgspec.Struct, array_like=True, gc=False):
    """Where a sealed object lies: ``size`` bytes at ``offset`` of the arena of ``node_id``; or, with ``spill_path``,
    of that file on the node's disk, with their CRC-32."""

    node_id: bytes
    offset: int
    size: int
    spill_path: str = ""
    checksum: int = 0


class ErrorValue(msgspec.Struct, array_like=True, gc=False):
    """A failed object. ``code`` names the exception class of ``base/errors`` (or "task" for an error of user code);
    ``payload`` is the pickled exception for "task", else empty; ``text`` is the whole message for people."""

    code: str
    text: str
    payload: bytes = b""
    seen: bool = False
    """Whether somebody has been told: an error that nobody has asked for is logged when its last reference goes."""
    actor_id: bytes = b""
    """The actor an error is about."""
    is_of_task: bool = False
    """For a code other than "task": ``payload`` is the RayTaskError to raise, which is of the named class too."""


class Value(msgspec.Struct, array_like=True, gc=False):
    """A ready object: exactly one of inline bytes, a location, or an error; ``contained`` are the refs inside it."""

    inline: bytes | None = None
    location: Location | None = None
    error: ErrorValue | None = None
    contained: list[RefInfo] | None = None
    origin: str = ""
    """The line of code that made it, where that is recorded."""


STREAMING = -1
"""``num_returns`` of a task whose items are returned one by one, as they are made."""
DYNAMIC = -2
"""``num_returns`` of a task that returns one reference to all its items, at its end."""

END_OF_STREAM = "EndOfStream"
"""Code of the value that stands after a stream's last item. Never raised: whoever reads the stream ends there."""


class SchedulingClass(msgspec.Struct, array_like=True, frozen=True):
    """Everything that decides *which worker* may run a task; tasks of one class share leases.

    resources: sorted (name, fixed-point amount) pairs. environment: key of the runtime environment, "" for the plain
    one. strategy: encoded scheduling strategy, "" for the default one (``base/strategies`` has the grammar).
    """

    resources: tuple[tuple[str, int], ...]
    environment: str = ""
    strategy: str = ""
    max_calls: int = 0
    labels: tuple[tuple[str, str], ...] = ()
    """Label selector of the node it may run on, as sorted pairs (``base/label_selector``)."""
    fallbacks: tuple[tuple[tuple[str, str], ...], ...] = ()
    """Selectors to try in turn where no node meets the first."""
    is_retriable: bool = True
    """Whether its tasks may run again when their worker dies: those go first when memory runs short."""


class LabelChoice(msgspec.Struct):
    """One label selector among several."""

    labels: dict[str, str]


class ActorSpec(msgspec.Struct, array_like=True):
    """An actor as the GCS knows it. ``creation`` is opaque to everyone but the worker that runs it.

    resources: what it holds while alive, fixed point. placement: what it must find to be placed (behaviour 34: one CPU
    to place, none while alive, unless asked otherwise). max_restarts: -1 for ever.
    """

    actor_id: bytes
    job_id: bytes
    class_name: str
    owner: Endpoint
    resources: dict[str, int]
    placement: dict[str, int]
    creation: bytes
    name: str = ""
    namespace: str = ""
    detached: bool = False
    max_restarts: int = 0
    environment: str = ""
    strategy: str = ""
    max_concurrency: int = 1
    is_async: bool = False
    handle: bytes = b""
    """What ``get_actor`` needs to rebuild a handle: opaque, written by the creator."""
    labels: dict[str, str] = {}
    """Label selector of the node it may live on."""
    fallbacks: list[LabelChoice] = []
    """Selectors to try in turn where no node meets the first."""


class Bundle(msgspec.Struct):
    """One part of a placement group: amounts that lie together on one node. selector: of that node's labels."""

    shape: dict[str, int]
    selector: dict[str, str] = {}


class PlacementGroupSpec(msgspec.Struct):
    """A placement group as it was asked for.

    strategy: PACK, SPREAD, STRICT_PACK or STRICT_SPREAD. creator_actor: the actor whose code made it (the group goes with
    that actor then), b"" for a driver or task (it goes with the job).
    """

    group_id: bytes
    job_id: bytes
    bundles: list[Bundle]
    strategy: str = "PACK"
    name: str = ""
    namespace: str = ""
    creator_actor: bytes = b""
    detached: bool = False


class Job(msgspec.Struct, array_like=True, frozen=True):
    """On whose behalf a worker works. import_paths: where the driver finds modules, so that workers find them too."""

    job_id: bytes = b""
    namespace: str = ""
    import_paths: tuple[str, ...] = ()
    logging: str = ""
    """How Python's logging looks in workers, as ``LoggingConfig.to_json`` has it; "": as Python has it."""


class Assignment(msgspec.Struct, array_like=True):
    """What a lease or actor really got: amounts, and which instances (``{"GPU": [[0, 5000]]}``: half of GPU 0)."""

    resources: dict[str, int]
    instances: dict[str, list[list[int]]] = {}
    strategy: str = ""
    """How it was scheduled: the strategy of its class."""
