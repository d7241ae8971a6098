"""The Engine protocol: the one narrow waist between the public API and whatever runs tasks.

Above it: decorators, options, handles, errors as users know them. Below it: owners, leases, sockets. Ids and values
cross as bytes and records; user functions cross as ``FunctionBlob`` keys; nothing above knows a socket.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Protocol

import msgspec

from raybook.base.facts import Fact
from raybook.base.specs import LabelChoice, PlacementGroupSpec, SchedulingClass
from raybook.protocol.serialization import SerializationContext


class TaskOptions(msgspec.Struct, gc=False):
    """Checked options of one task submission (``api/options`` has refused everything wrong already).

    scheduling_class: what decides which worker may run it. retry_exceptions: True, False or exception classes.
    num_returns: count, STREAMING or DYNAMIC. backpressure: of a generator, at how many items that nobody has taken it
    pauses; -1: never.
    """

    name: str
    scheduling_class: SchedulingClass
    num_returns: int = 1
    max_retries: int = 3
    retry_exceptions: Any = False
    max_calls: int = 0
    backpressure: int = -1


class ActorOptions(msgspec.Struct):
    """Checked options of one actor creation. resources / placement as in base/specs.ActorSpec."""

    class_name: str
    resources: dict[str, int]
    placement: dict[str, int]
    name: str = ""
    namespace: str | None = None
    detached: bool = False
    get_if_exists: bool = False
    max_restarts: int = 0
    max_task_retries: int = 0
    max_concurrency: int | None = None
    max_pending_calls: int = -1
    is_async: bool = False
    environment: str = ""
    strategy: str = ""
    labels: dict[str, str] = {}
    fallbacks: list[LabelChoice] = []
    """Label selectors to try in turn where no node meets the first."""
    methods: dict[str, int] = {}
    """Method name → declared num_returns; lets a handle refuse unknown methods at the call site."""
    concurrency_groups: dict[str, int] = {}
    """Group name → how many of its calls may run at once."""
    method_defaults: dict[str, MethodDefaults] = {}
    is_unordered: bool = False
    """Whether a call whose arguments are missing is passed by later ones."""


class MethodDefaults(msgspec.Struct, array_like=True, frozen=True):
    """What ``@method`` declared for one method, beside num_returns. None: as the actor has it."""

    max_task_retries: int | None = None
    retry_exceptions: bool | bytes | None = None
    """Bytes: a pickled tuple of exception classes, so that it travels with the handle."""
    concurrency_group: str = ""
    backpressure: int = -1


class CallOptions(msgspec.Struct, gc=False):
    """Checked options of one actor call."""

    name: str
    num_returns: int = 1
    max_task_retries: int = 0
    retry_exceptions: Any = False
    concurrency_group: str = ""
    backpressure: int = -1


class Function(Protocol):
    """What an engine needs of a remote function or actor class: a stable key and bytes, made at first use."""

    key: bytes
    payload: bytes
    name: str
    short_name: str


class RefHandle(Protocol):
    """What an engine needs of an ObjectRef."""

    @property
    def id(self) -> bytes:
        """The object's id."""


class Unfinished(Protocol):
    """What this process has submitted and is not over; ``engines/own_tasks`` has the rows."""

    def unfinished(self) -> list[Any]:
        """In the order of their submission."""

    def unfinished_of(self, object_id: bytes) -> Any:
        """The task that is to make this object; None when it is over, or another process's."""

    def settle(self) -> None:
        """Wait until what this thread has submitted so far is among the unfinished. Not from a signal's handler."""

    def explain(self, object_id: bytes) -> str:
        """Why an object is not ready, in a line."""

    def cancel(self, task_ids: Iterable[bytes], force: bool, recursive: bool) -> None:
        """Cancel these. Returns at once."""

    def keep_failed(self, count_max: int) -> None:
        """From now on keep so many of the last tasks whose code raised, with their arguments."""

    def submitted(self, function_key: bytes) -> int:
        """How many tasks of an exported version were submitted; 0 when that is not known."""

    def failed(self) -> list[Any]:
        """Tasks that are kept, the newest first."""

    def bring_here(self, task_id: bytes) -> tuple[Any, tuple[Any, ...], dict[str, Any]]:
        """The function and the arguments of a kept task. KeyError when it is not kept."""


class Engine(Protocol):
    """One connection of this process to one cluster. Methods may be called from any user thread, none of them runs user
    code, and none blocks unless its text says so. Refs come back as ``ObjectRef``, made by ``make_ref``.

    Counting: every ref and every actor handle that an engine's method returns, and every one made after ``adopt_ref``
    or ``adopt_actor``, counts once; its ``__del__`` gives that count back through ``release``.
    """

    client_id: bytes
    node_id: bytes
    job_id: bytes
    namespace: str
    address: str
    """What another driver on this machine passes to ``init(address=...)``."""
    session_dir: str
    gcs_address: str
    environment: str
    """Key of this process's runtime environment (``base/environments``), which what it starts inherits."""
    closed: bool
    """Whether ``shutdown`` was called, or this process was forked from the one that connected: calls raise then."""
    session: Any
    """What the owner's process keeps for others to come, when that is not this one (``engines.session.SessionView``);
    else None."""
    make_ref: Callable[[bytes, str, Callable[[bytes], None]], Any]
    """The public ref class, called with (id, owner address, release). ``api`` sets it before the first submission."""
    serialization: SerializationContext
    """Every user value goes through it. ``api`` adds the reducers of refs and handles before the first submission."""
    release: Callable[[bytes], None]
    """Gives back one count of an object or actor id: one ``deque.append``, the same callable for the engine's life."""

    @property
    def own_tasks(self) -> Unfinished:
        """What this process has submitted and is not over."""

    def adopt_ref(self, object_id: bytes, owner_address: str) -> Any:
        """A ref that arrived inside a value, counted: made by ``make_ref``."""

    def adopt_actor(self, actor: ActorHandleState) -> None:
        """Count one more handle of this actor in this process."""

    def submit_task(self, function: Function, args: tuple, kwargs: dict, options: TaskOptions) -> list[Any]:
        """Queue a task; its refs, at once. TypeError (naming the path) for arguments that cannot be pickled. Of a
        generator (num_returns STREAMING or DYNAMIC) that is one ref, ready at its end; whoever reads the items of a
        STREAMING one gives ``stream_id(task id)`` back through ``release`` when no more are wanted."""

    def create_actor(self, function: Function, args: tuple, kwargs: dict, options: ActorOptions) -> ActorHandleState:
        """Register and start an actor; returns at once unless it has a name (then blocks for one round trip).
        ActorAlreadyExistsError when the name is taken."""

    def call_actor(
        self, actor: ActorHandleState, method: str, args: tuple, kwargs: dict, options: CallOptions
    ) -> list[Any]:
        """Queue a call; its refs. PendingCallsLimitExceeded when the handle's limit is reached."""

    def get_actor(self, name: str, namespace: str | None) -> ActorHandleState:
        """A handle by name (one round trip). ValueError "Failed to look up actor with name ..."."""

    def peek_item(self, task_id: bytes, index: int) -> bool | None:
        """Whether item ``index`` (from 1 on) of a generator is there; False after its end, None while nobody knows. Its
        id is ``return_id(task_id, index)``: ``wait`` and ``when_ready`` wait for the item or the end."""

    def next_item(self, task_id: bytes, index: int, timeout_s: float | None) -> Any:
        """A ref of that item, which counts as consumed; None after the end. Blocks until there is one or the other;
        GetTimeoutError."""

    def put(self, value: Any) -> Any:
        """Store a value; its ref. ObjectStoreFullError."""

    def get(self, refs: Sequence[RefHandle], timeout_s: float | None) -> list[Any]:
        """Block until all are ready (or one failed); the values, in order. Raises what the failed task raised,
        GetTimeoutError, or the error of a lost object. Wakes at once on an interrupt."""

    def wait(
        self, refs: Sequence[RefHandle], num_returns: int, timeout_s: float | None, fetch_local: bool
    ) -> tuple[list[Any], list[Any]]:
        """Block until ``num_returns`` are ready or time is up: (ready, not ready), both in input order."""

    def when_ready(self, ref: RefHandle, callback: Callable[[], None]) -> None:
        """Call back once, from the I/O thread, when the object is ready or failed (for await and futures)."""

    def kill_actor(self, actor: ActorHandleState, no_restart: bool) -> None:
        """End an actor now."""

    def cancel(self, ref: RefHandle, force: bool, recursive: bool) -> None:
        """Cancel the task that returns this object."""

    def create_placement_group(self, spec: PlacementGroupSpec) -> bytes:
        """Ask for a group; its id (the spec's ids and namespace are filled in). Returns at once unless it has a name
        (then blocks for one round trip); ValueError when the name is taken."""

    def wait_placement_group(self, group_id: bytes, timeout_s: float) -> bool:
        """Block until the group is created (True), is removed or time is up (False)."""

    def placement_group_ready(self, group_id: bytes, value: Any) -> Any:
        """A ref that becomes ``value`` when the group is created."""

    def remove_placement_group(self, group_id: bytes) -> None:
        """Give a group back and end what runs in it. Blocks a round trip; calls made after it find the group removed."""

    def gcs_call(self, method: str, request: Any) -> Any:
        """One call of the GCS by method name, with the structs of protocol/messages/gcs (blocks a round trip)."""

    def publish_facts(self, facts: list[Fact]) -> None:
        """Rows for whoever looks; returns at once."""

    def subscribe_facts(self, callback: Callable[[Any], None]) -> Callable[[], None]:
        """Deliver FactDelta records from a thread of the engine until the returned function is called."""

    def flush_output(self, timeout_s: float) -> None:
        """Block until what workers have printed by now has been handed to whoever takes it, or time is up."""

    def memory(self) -> list[dict]:
        """What this process refers to, as rows of ``api.memory.memory_summary``, the largest object first."""

    def shutdown(self) -> None:
        """Leave the cluster, and end it if this process owns it. Idempotent; blocks until it is gone."""


class ActorHandleState(msgspec.Struct):
    """What a handle carries across processes; ``api/actor`` wraps it. Everything in it is immutable."""

    actor_id: bytes
    owner_address: str
    class_name: str
    methods: dict[str, int]
    is_async: bool = False
    max_task_retries: int = 0
    max_pending_calls: int = -1
    name: str = ""
    namespace: str = ""
    detached: bool = False
    method_defaults: dict[str, MethodDefaults] = {}
    concurrency_groups: list[str] = []
    is_unordered: bool = False
    """Whether calls need not run in the order of their submission: those that wait for arguments are passed."""
    is_weak: bool = False
    """Whether handles made of it were looked up by name: they do not keep the actor alive, and are not counted."""

    def weakened(self) -> ActorHandleState:
        """The same actor, for a handle that does not keep it alive."""
        return msgspec.structs.replace(self, is_weak=True)
