"""Process to process: owners push tasks to workers, borrowers ask owners for objects.

Every driver and worker listens on one framed socket; whoever needs something connects, and both sides then speak on
that connection. Messages on one connection arrive in order, and some rules below rest on that.
"""

from __future__ import annotations

import msgspec

from raybook.base.specs import Assignment, Endpoint, ErrorValue, Job, Location, RefInfo, Value


class Hello(msgspec.Struct, tag=1, array_like=True):
    """First message of the connecting side: who it is, so that its death can be told from a lost connection."""

    endpoint: Endpoint


class ArgRef(msgspec.Struct, array_like=True, gc=False):
    """A top-level reference among the arguments, resolved by the caller before the push when it owns the value. Empty in a
    pushed task: a task pushed before it makes the value, in the same process."""

    ref: RefInfo
    value: Value | None = None


class StreamOrder(msgspec.Struct, array_like=True, gc=False):
    """How a generator's items come back. ``received`` and ``consumed`` grow with what the owner has and has handed out,
    so that every attempt begins where the last one broke off. collect: the owner's address, if the task returns one
    reference to all items at its end (``num_returns="dynamic"``), else empty."""

    window: int = -1
    """The producer pauses at this many items that nobody has taken; -1: never."""
    received: int = 0
    consumed: int = 0
    collect: str = ""


class TaskSpec(msgspec.Struct, array_like=True, gc=False):
    """One task or actor call as the worker sees it.

    args: the serialized ``(args, kwargs)``; top-level references are slots in it, filled from ``slots``.
    args_value: set instead of ``args`` when they were too large for a message.
    attempt: grows with each retry; replies of an older attempt are dropped.
    """

    task_id: bytes
    function_key: bytes
    name: str
    args: bytes
    num_returns: int = 1
    attempt: int = 0
    slots: list[ArgRef] | None = None
    args_value: ArgRef | None = None
    contained: list[RefInfo] | None = None
    sequence: int = 0
    """Actor calls: position in the stream of this caller to this actor, from 0 in each incarnation."""
    group: str = ""
    retry_exceptions: bool = False
    retry_classes: bytes = b""
    """Pickled tuple of exception classes that are worth a retry; empty: all are, if ``retry_exceptions``."""
    max_calls: int = 0
    method: str = ""
    """Actor calls: the method's name."""
    parent: bytes = b""
    """Id of the task that submitted it, so that cancelling reaches its children."""
    cell: str = ""
    """Notebook cell that submitted it, for panels and tracebacks."""
    stream: StreamOrder | None = None
    """Set for generators: their items are objects 1, 2, … of the task, and 0 is ready at its end."""
    runs_once: bool = False
    """It may not be tried again (max_retries=0): answers before it and its own are sent without delay, so that of a
    worker that dies it is known whether it had begun."""


class ActorCreation(msgspec.Struct, array_like=True):
    """What the worker needs to become an actor; travels as opaque bytes in ``base.specs.ActorSpec.creation``."""

    class_key: bytes
    class_payload: bytes
    spec: TaskSpec
    max_concurrency: int
    is_async: bool
    job: Job
    groups: dict[str, int] = {}
    """Concurrency groups: name → how many of its calls run at once."""


class SendFunction(msgspec.Struct, tag=2, array_like=True):
    """owner → worker: a function or class, before its first use on this connection."""

    key: bytes
    payload: bytes


class ForgetFunctions(msgspec.Struct, tag=42, array_like=True):
    """owner → worker: none of my tasks needs these any more. Should one, the code comes again before it."""

    keys: list[bytes]


class BindLease(msgspec.Struct, tag=3, array_like=True):
    """owner → worker: pushes of ``epoch`` may now come from me, with these resources assigned."""

    epoch: int
    assignment: Assignment
    job: Job


class PushTasks(msgspec.Struct, tag=4, array_like=True):
    """owner → worker: run these under the lease of ``epoch``, in order."""

    epoch: int
    tasks: list[TaskSpec]


class PushCalls(msgspec.Struct, tag=5, array_like=True):
    """caller → actor: method calls; ``incarnation`` must be the actor's own or they bounce."""

    incarnation: int
    calls: list[TaskSpec]


class TaskReply(msgspec.Struct, array_like=True, gc=False):
    """How a task ended. ``error`` set: all returns failed with it. ``retryable``: user code raised, and the owner may
    try again if the task asks for it. ``borrowed``: refs of the arguments that the worker still holds."""

    task_id: bytes
    attempt: int
    returns: list[Value]
    run_us: int = 0
    error: ErrorValue | None = None
    borrowed: list[bytes] | None = None


class TaskReplies(msgspec.Struct, tag=6, array_like=True):
    """worker → owner."""

    replies: list[TaskReply]


class TasksBounced(msgspec.Struct, tag=7, array_like=True):
    """worker → owner: these never started (lease revoked, worker blocked in get, stolen back, actor gone, or an
    argument that was to be made here was not)."""

    task_ids: list[bytes]
    epoch: int
    reason: str = ""


class StealTasks(msgspec.Struct, tag=8, array_like=True):
    """owner → worker: give back up to ``count`` unstarted tasks, the newest first."""

    count: int


class CancelTask(msgspec.Struct, tag=9, array_like=True):
    """owner → worker: cancel it. Answered by a reply (cancelled) or by the normal one if it was too late."""

    task_id: bytes
    force: bool = False
    recursive: bool = True


class GetObject(msgspec.Struct, tag=10, array_like=True):
    """borrower → owner: tell me this object's value as soon as it is ready. ``lost_with``: I could not read it, because
    this node is dead; do not tell me that it lies there."""

    object_id: bytes
    lost_with: bytes = b""


class ObjectReady(msgspec.Struct, tag=11, array_like=True):
    """owner → borrower."""

    object_id: bytes
    value: Value


class AddBorrows(msgspec.Struct, tag=12, array_like=True):
    """borrower → owner: I hold these. ``ack_id`` ≠ 0 asks for ``BorrowsAdded``."""

    object_ids: list[bytes]
    ack_id: int = 0


class BorrowsAdded(msgspec.Struct, tag=13, array_like=True):
    """owner → borrower."""

    ack_id: int


class DropBorrows(msgspec.Struct, tag=14, array_like=True):
    """borrower → owner: I hold these no longer."""

    object_ids: list[bytes]


class ReturnsTaken(msgspec.Struct, tag=15, array_like=True):
    """caller → worker: the refs inside this task's return values are borrowed properly now; drop the hold. Of a
    stream's items: ``task_id`` is the id of the first item of the message that brought them."""

    task_id: bytes


class ObjectMoved(msgspec.Struct, tag=30, array_like=True):
    """owner → borrower: the object that lay at ``old_offset`` of the arena now lies at ``location``. Use that, and
    answer when nothing of yours looks at the old place."""

    object_id: bytes
    old_offset: int
    location: Location


class MoveNoted(msgspec.Struct, tag=31, array_like=True):
    """borrower → owner: nothing of mine looks at the object's old place, and I tell nobody of it. ``passed_on``: tasks
    that I had pushed got it from me; they have ended."""

    object_id: bytes
    old_offset: int
    passed_on: bool = False


class StreamItems(msgspec.Struct, tag=40, array_like=True):
    """worker → owner: items of a generator, in order; ``index`` is the number of the first, from 1 on."""

    task_id: bytes
    attempt: int
    index: int
    values: list[Value]


class StreamCredit(msgspec.Struct, tag=41, array_like=True):
    """owner → worker: this many items have been taken; a producer that waits may go on. -1: nobody wants any more, stop
    at the next item."""

    task_id: bytes
    consumed: int


WorkerMessage = (
    Hello
    | SendFunction
    | ForgetFunctions
    | BindLease
    | PushTasks
    | PushCalls
    | TaskReplies
    | TasksBounced
    | StealTasks
    | CancelTask
    | GetObject
    | ObjectReady
    | AddBorrows
    | BorrowsAdded
    | DropBorrows
    | ReturnsTaken
    | ObjectMoved
    | MoveNoted
    | StreamItems
    | StreamCredit
)
