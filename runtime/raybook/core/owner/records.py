"""The owner's records, the events that reach it, and the effects that leave it.

User threads make the records and hand them over; from then on only the I/O thread touches them.
"""

from __future__ import annotations

from typing import Any

import msgspec

from raybook.base.specs import Location, RefInfo, Value
from raybook.protocol.messages.worker import TaskSpec

UNMEASURED = -1.0


class FunctionStats:
    """What the owner has seen of one function: run time for pipelining, counts for panels."""

    __slots__ = (
        "average_us", "cancelled", "changed", "failed", "finished", "function", "in_flight", "is_retired", "name",
        "payload", "submitted",
    )  # fmt: skip

    def __init__(self, name: str, payload: bytes = b"", function: str = "") -> None:
        self.name = name
        self.function = function or name
        """Its own name, where ``name`` is what its first caller called it."""
        self.payload = payload
        self.average_us = UNMEASURED
        self.submitted = 0
        self.in_flight = 0
        self.finished = 0
        self.failed = 0
        self.cancelled = 0
        self.changed = True
        self.is_retired = False
        """It stands for versions that are forgotten."""

    def add(self, other: FunctionStats) -> None:
        """Take over what another one has counted."""
        self.submitted += other.submitted
        self.finished += other.finished
        self.failed += other.failed
        self.cancelled += other.cancelled
        self.changed = True

    @property
    def is_busy(self) -> bool:
        """Whether a task of it is on its way."""
        return self.in_flight > 0 or self.submitted > self.finished + self.failed + self.cancelled

    def ended(self, state: str) -> None:
        """One more is over: FINISHED, CANCELLED or FAILED."""
        self.changed = True
        if state == "FINISHED":
            self.finished += 1
        elif state == "CANCELLED":
            self.cancelled += 1
        else:
            self.failed += 1

    def measure(self, run_us: int) -> None:
        """Fold one run into the moving average. A run far above it counts at once: pipelining must turn careful fast
        and bold slowly."""
        average = self.average_us
        if average < 0 or run_us > 4 * average + 100:
            self.average_us = float(run_us)
        else:
            self.average_us = average + 0.2 * (run_us - average)


class TaskRecord(msgspec.Struct, gc=False):
    """One submitted task or actor call. ``held``: ids this task keeps alive until it ends. ``unresolved``: how many of
    its arguments have no value yet."""

    spec: TaskSpec
    stats: Any
    scheduling_class: Any = None
    """SchedulingClass of a task; None for an actor call."""
    actor_id: bytes = b""
    retries_left: int = 0
    retry_exceptions: Any = False
    """False, True, or the tuple of exception classes that are worth a retry (the worker judges, see the spec)."""
    held: list[RefInfo] | None = None
    unresolved: int = 0
    cancelled: bool = False
    submitted_s: float = 0.0
    """Seconds since the epoch."""
    lease: Any = None
    """Lease that the task was pushed under, or None."""
    may_overtake: bool = False
    """Of a call: may be sent before earlier ones whose arguments are missing."""
    followers: list[TaskRecord] | None = None
    """Tasks that wait for this one alone, and may be pushed right behind it."""
    call_site: str = ""
    """The line of code that submitted it, where that is recorded."""
    oom_tries: int = 0
    """How often its worker was ended because memory ran short."""


class Wait(msgspec.Struct, eq=False):
    """One blocked ``get`` or ``wait``: released when ``needed`` of its ids are ready (or, for a get, one failed)."""

    ids: list[bytes]
    needed: int
    stop_on_error: bool
    lock: Any = None
    """Opened when it is done, if there is one."""
    callback: Any = None
    done: bool = False


# Events from user threads of this process. A bare ``bytes`` in the queue means: one local reference to it is gone.


class Put(msgspec.Struct, gc=False):
    """A value was stored under an id of ours."""

    object_id: bytes
    value: Value
    own_region: bool = False
    ticket: Any = None
    """The room that it lies in, which is the object's from now on."""


class Fulfil(msgspec.Struct, gc=False):
    """An id of ours that was handed out before there was a value has one now."""

    object_id: bytes
    value: Value


class HoldRef(msgspec.Struct, gc=False):
    """A reference came to life in this process."""

    ref: RefInfo


class Pin(msgspec.Struct, gc=False):
    """A view into the arena came to life in this process. unpin: its end, if it is not to count before this."""

    ref: RefInfo
    offset: int
    unpin: Unpin | None = None


class Unpin(msgspec.Struct, gc=False):
    """The last slice of such a view is gone. Made together with its ``Pin``, because a finalizer may only append."""

    object_id: bytes
    offset: int
    is_kept: bool = False
    """For the reader alone: a view has taken over, and hands this in when it goes."""
    is_due: bool = True
    """For the owner machine alone: its ``Pin`` has been counted, and not taken back yet."""


class TakeItem(msgspec.Struct, gc=False):
    """The next item of a stream was handed to the user: its reference takes over the stream's count."""

    task_id: bytes
    index: int


class SourceLost(msgspec.Struct, gc=False):
    """The object could not be read at this place, for its node is dead; or, with ``damage``, for what its file is not."""

    object_id: bytes
    location: Location
    damage: str = ""


class CancelWait(msgspec.Struct, gc=False):
    wait: Any


class CreateActorCommand(msgspec.Struct):
    """An actor of ours was requested; ``held`` lives as long as the actor may restart."""

    actor_id: bytes
    held: list[RefInfo]
    detached: bool


class KillingActor(msgspec.Struct):
    """This process is about to have an actor killed: no call of ours may overtake that."""

    actor_id: bytes


class KnowActor(msgspec.Struct):
    """A handle of somebody else's actor came to life here."""

    actor_id: bytes
    owner_address: str


class CancelCommand(msgspec.Struct):
    task_id: bytes
    force: bool
    recursive: bool


class SealReply(msgspec.Struct):
    """worker: a task with references among its arguments or results ended; work out what is still held, then reply."""

    caller: bytes
    reply: Any


class SealItems(msgspec.Struct):
    """worker: items with references inside them were made; hold those until the owner of the stream does."""

    caller: bytes
    items: Any


# Events from outside.


class FromPeer(msgspec.Struct, gc=False):
    client_id: bytes
    message: Any


class FromRaylet(msgspec.Struct, gc=False):
    message: Any


class PeerGone(msgspec.Struct):
    """The connection to another process ended. reason: why, unless the process just closed it. is_cut_off: the network
    broke it, and the process may live. home: its node (``io/peer_address``), "" for this one: that may have died, too."""

    client_id: bytes
    reason: str = ""
    is_cut_off: bool = False
    home: str = ""


# Effects.


class ToPeer(msgspec.Struct, gc=False):
    """Send to a process; connect to ``address`` if there is no connection yet."""

    client_id: bytes
    address: str
    message: Any


class PushTo(msgspec.Struct, gc=False):
    """Push tasks or calls: like ToPeer, but functions the peer does not have yet go first."""

    client_id: bytes
    address: str
    message: Any
    records: list[TaskRecord]


class ToRaylet(msgspec.Struct, gc=False):
    message: Any


class WakeUp(msgspec.Struct, gc=False):
    wait: Any


class FreeOwn(msgspec.Struct, gc=False):
    """A region of this process's own extents is garbage."""

    offset: int


class LookAgain(msgspec.Struct):
    """Run one more batch at once: events that user threads have appended by now must be seen."""


class GiveBackIdle(msgspec.Struct):
    """Return the room of this process's extents in which nothing lies to the raylet."""


class UnhandledError(msgspec.Struct):
    """A task failed, and nobody has asked for its result, or can any more."""

    text: str


class LogLine(msgspec.Struct):
    """Something people should read: an infeasible request, an error nobody fetched."""

    text: str
