"""What the lease manager hears (past tense) and what it asks its shell to do (imperative).

Clients and workers are named by their client ids. A lease is one worker for one class of one client's tasks.
"""

from __future__ import annotations

from msgspec import Struct

from raybook.base.resources import Shape
from raybook.base.specs import ActorSpec, Assignment, SchedulingClass

# --- events -----------------------------------------------------------------------------------------------------------


class DemandSet(Struct):
    """``client`` could use ``count`` more leases of this class; replaces the earlier number."""

    client: bytes
    class_key: int
    scheduling_class: SchedulingClass
    count: int
    name: str = ""


class DemandImpossible(Struct):
    """It became known elsewhere that this demand can never be served by any node; ``code`` is an exception class."""

    client: bytes
    class_key: int
    code: str
    text: str


class LeaseReturned(Struct):
    """``client`` is done with it. ``broken``: it could not talk to the worker."""

    client: bytes
    lease_id: int
    broken: bool = False


class WorkerReady(Struct):
    """A worker process is registered (or stays after having been asked to end) and may be leased."""

    worker: bytes
    environment: str = ""


class WorkerWithdrawn(Struct):
    """The pool wants this worker to end. If it is idle, it is asked to and leased no more; else nothing happens."""

    worker: bytes


class WorkerLeaving(Struct):
    """The worker announced that it ends on purpose. Its lease is over; what it holds is free when it is dead, or at
    once if it ``stays`` for the sake of its objects."""

    worker: bytes
    stays: bool = False


class WorkerDied(Struct):
    """The process is gone (``waitpid`` said so)."""

    worker: bytes
    reason: str = ""
    exit_code: int = 0
    out_of_memory: bool = False
    intended: bool = False
    """It had announced that it would."""
    code: str = ""
    """Exception class that its task fails with, without another try; "": it may be tried again."""

    @property
    def actor_code(self) -> str:
        """Exception class of calls of its actor; "" for the usual one."""
        return "ActorOutOfMemoryError" if self.out_of_memory else ""


class RevokeAnswered(Struct):
    """The worker agreed to drop ``epoch`` (idle) or runs something of it."""

    worker: bytes
    epoch: int
    idle: bool


class LeaseProbed(Struct):
    """The worker said whether anything of this lease runs or waits; only reports of resources use it."""

    worker: bytes
    epoch: int
    idle: bool


class WorkerBlocked(Struct):
    """Its task waits in get: its CPU is free meanwhile."""

    worker: bytes


class WorkerUnblocked(Struct):
    """The wait is over."""

    worker: bytes


class ClientGone(Struct):
    """A driver or worker died or left: nothing may run for it any more."""

    client: bytes


class NodeDraining(Struct):
    """This node takes no more work: nothing is granted from now on, and leases are asked back when their tasks end."""

    why: str


class ActorRequested(Struct):
    """Place this life of an actor here. The same life asked for again is ignored."""

    spec: ActorSpec
    incarnation: int
    restarts: int = 0
    tries: int = 0
    """Workers that left before they began it."""


class ActorReady(Struct):
    """``__init__`` ended well: from now on the actor holds ``spec.resources`` only."""

    worker: bytes


class ActorFailed(Struct):
    """``__init__`` raised, and who must know has been told: the worker is of no more use."""

    worker: bytes
    reason: str


class ActorCancelled(Struct):
    """Not wanted any more: taken out of the queue, or its worker ended. is_recall: it goes to another node, if it still
    queues here; nothing happens when it does not, and the GCS is told by the answer alone."""

    actor_id: bytes
    incarnation: int
    graceful: bool = False
    reason: str = ""
    is_recall: bool = False
    was_queued: bool = False
    """Filled in by the lease manager."""


class BundlesRequested(Struct):
    """Reserve these bundles of a placement group, all or none; ``commit``: for use at once. Whether it went well, the
    pools say (``ResourcePools.prepare`` in ``why_refused``)."""

    group_id: bytes
    attempt: int
    bundles: list[tuple[int, Shape]]
    commit: bool
    why_refused: str = ""
    """Filled in by the lease manager."""


class BundlesCommitted(Struct):
    """What this attempt reserved may be used."""

    group_id: bytes
    attempt: int


class BundlesReturned(Struct):
    """Give bundles back; whatever runs in them is ended."""

    group_id: bytes
    attempt: int
    indices: list[int]
    reason: str = ""


class GroupRemoved(Struct):
    """The placement group is gone for good: what runs in it is ended, tasks that wait for it fail."""

    group_id: bytes
    attempt: int
    reason: str = ""


# --- effects ----------------------------------------------------------------------------------------------------------


class Grant(Struct):
    """Tell ``client`` that ``worker`` is its own."""

    client: bytes
    class_key: int
    lease_id: int
    epoch: int
    worker: bytes
    assignment: Assignment


class LeaseLostEffect(Struct):
    """Tell ``client`` that the lease is gone; fields as in the message LeaseLost."""

    client: bytes
    lease_id: int
    died: bool
    reason: str = ""
    exit_code: int = 0
    out_of_memory: bool = False
    code: str = ""


class StartWorkers(Struct):
    """``count`` workers of this environment are lacking at this moment. A level, not an order: it replaces the number
    said before, and workers that are starting already count towards it."""

    environment: str
    count: int


class AskRevoke(Struct):
    """Ask the worker to drop ``epoch``. ``drain``: it has been held long enough while others wait; give back what has
    not started and answer when the running task has ended."""

    worker: bytes
    epoch: int
    drain: bool = False


class StartActorOn(Struct):
    """Make the worker this actor."""

    worker: bytes
    spec: ActorSpec
    incarnation: int
    assignment: Assignment
    restarts: int


class ActorGone(Struct):
    """This life of an actor is over: its worker died, or it was cancelled while queued (``started`` false)."""

    actor_id: bytes
    incarnation: int
    reason: str
    started: bool
    intended: bool
    code: str = ""


class Infeasible(Struct):
    """Tell ``client`` (once a class) that this can never be served here; it stays queued."""

    client: bytes
    class_key: int
    text: str


class Refuse(Struct):
    """Tell ``client`` that this will never run: its tasks fail with the exception class ``code``. Nothing stays queued."""

    client: bytes
    class_key: int
    code: str
    text: str


class FollowGroup(Struct):
    """Something waits for a placement group of which there is no bundle here: find out what becomes of the group."""

    group_id: bytes


class KillWorker(Struct):
    """End the process. ``graceful``: let it finish its queued calls first."""

    worker: bytes
    reason: str
    graceful: bool = False


class WorkerTaken(Struct):
    """The worker is not idle any more; ``dedicated`` ones (actors) never come back."""

    worker: bytes
    dedicated: bool


class WorkerReleased(Struct):
    """The worker is idle again."""

    worker: bytes


class ReportResources(Struct):
    """Available amounts or queued demand changed."""


class WaitingRequest(Struct):
    """A queued request, for reports: its shape, how many, and why it waits."""

    shape: Shape
    count: int
    name: str = ""
    text: str = ""


def wanted_by(spec: ActorSpec) -> Shape:
    """What must be free before an actor is placed: the larger of what it needs to start and what it holds alive."""
    wanted = {name: amount for name, amount in spec.placement.items() if amount}
    for name, amount in spec.resources.items():
        if amount > wanted.get(name, 0):
            wanted[name] = amount
    return wanted
