"""Fleet node: the shipped lease manager of one node, and workers that only exist as names. Decides nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from raybook.base.facts import ACTOR_ALIVE, ACTOR_DEAD
from raybook.base.resources import Shape
from raybook.base.specs import Endpoint
from raybook.base.strategies import group_target
from raybook.core.node import lease_events as le
from raybook.core.node.lease_manager import LeaseManager
from raybook.core.node.local_resources import LocalResources
from raybook.protocol.messages import gcs as gm
from raybook.protocol.messages import node as nm
from raybook.sim.calls import Away
from raybook.sim.timeline import Timer

if TYPE_CHECKING:
    from raybook.sim.fleet.world import Fleet

FORK_US = 4_000
START_ACTOR_US = 3_000
REPORT_US = 10_000
HEARTBEAT_US = 1_000_000
LIGHT_LEASES_MAX = 16
LEASE_BITS = 24


class FleetNode:
    """number: in the order of joining. total: fixed-point amounts."""

    __slots__ = (
        "_busy", "_fleet", "_is_reporting", "_starting", "_timer", "_workers", "is_alive", "labels", "leases",
        "life", "name", "node_id", "total",
    )  # fmt: skip

    def __init__(self, fleet: Fleet, number: int, total: Shape, labels: dict[str, str]) -> None:
        self.node_id = b"n%07d" % number
        self.name = self.node_id.decode()
        self.life = 0
        self.is_alive = True
        self.total = total
        self.labels = labels
        self.leases = LeaseManager(LocalResources(total), LIGHT_LEASES_MAX, labels)
        self.leases.last_lease_id = number << LEASE_BITS
        self._fleet = fleet
        self._workers = 0
        self._starting = 0
        self._busy: dict[int, bytes] = {}
        """Lease → worker."""
        self._timer: Timer | None = None
        self._is_reporting = False

    def start(self) -> None:
        """Make it known."""
        fleet = self._fleet
        fleet.call_gcs(self, "RegisterNode", self.registration())
        fleet.timeline.after(int(fleet.rng.random() * HEARTBEAT_US), self._heartbeat)

    def registration(self) -> gm.RegisterNode:
        """What it tells the GCS of itself."""
        free = self.leases.available_for_reports()
        info = gm.NodeInfo(self.node_id, "tcp", resources_total=self.total, resources_available=free)
        info.labels = self.labels
        return gm.RegisterNode(info)

    def stop(self) -> None:
        """It is gone, with everything on it."""
        self.is_alive = False
        self.life += 1
        if self._timer is not None:
            self._timer.cancel()

    # The machine

    def tell(self, *events: Any) -> None:
        """Have the lease manager decide, and carry it out."""
        if not self.is_alive:
            return
        fleet = self._fleet
        for effect in fleet.meter.run("lease", self.leases.handle, events, fleet.timeline.now_ms):
            self._carry_out(effect)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        deadline_ms = self.leases.next_deadline_ms()
        if deadline_ms is not None:
            self._timer = fleet.timeline.at((deadline_ms + 1) * 1000, self.tell)

    def _carry_out(self, effect: Any) -> None:
        fleet = self._fleet
        after = fleet.timeline.after
        kind = type(effect)
        if kind is le.Grant:
            fleet.books.bound(self, effect)
            self._busy[effect.lease_id] = effect.worker
            fleet.to_driver(effect.client, "granted", self, effect)
        elif kind is le.StartWorkers:
            for _ in range(effect.count - self._starting):
                self._starting += 1
                after(FORK_US, self._worker_ready, effect.environment)
        elif kind is le.StartActorOn:
            fleet.books.bound(self, effect)
            after(START_ACTOR_US, self._actor_started, effect)
        elif kind is le.KillWorker:
            after(1_000, self._worker_died, effect.worker, effect.reason)
        elif kind is le.AskRevoke:
            after(fleet.latency_us(), self.tell, le.RevokeAnswered(effect.worker, effect.epoch, False))
        elif kind is le.LeaseLostEffect:
            self._busy.pop(effect.lease_id, None)
            fleet.to_driver(effect.client, "lost", self, effect.lease_id)
        elif kind is le.Refuse:
            fleet.to_driver(effect.client, "refused", self, effect.class_key)
        elif kind is le.ActorGone:
            report = gm.ActorStateReport(effect.actor_id, effect.incarnation, ACTOR_DEAD, reason=effect.reason)
            fleet.call_gcs(self, "ActorStateReport", report)
        elif kind is le.ReportResources:
            self._report_soon()

    def _worker_ready(self, environment: str) -> None:
        self._starting -= 1
        self._workers += 1
        self.tell(le.WorkerReady(b"%b-w%d" % (self.node_id, self._workers), environment))

    def _worker_died(self, worker: bytes, reason: str) -> None:
        if self.is_alive:
            self._fleet.books.freed(self, worker)
            self.tell(le.WorkerDied(worker, reason))

    def _actor_started(self, effect: le.StartActorOn) -> None:
        actor = self.leases.actor_of(effect.worker) if self.is_alive else None
        if actor is None or actor.incarnation != effect.incarnation:
            return
        actor_id = effect.spec.actor_id
        self._fleet.books.shrunk(self, effect.worker, effect.spec.resources)
        self._fleet.books.lives(self, actor_id, effect.incarnation)
        self.tell(le.ActorReady(effect.worker))
        endpoint = Endpoint(effect.worker, self.node_id, "tcp")
        report = gm.ActorStateReport(actor_id, effect.incarnation, ACTOR_ALIVE, endpoint, 1)
        self._fleet.call_gcs(self, "ActorStateReport", report)

    # Drivers

    def returned(self, client: bytes, lease_id: int) -> None:
        """A driver gives a lease back."""
        worker = self._busy.pop(lease_id, None)
        if worker is not None:
            self._fleet.books.freed(self, worker)
            self.tell(le.LeaseReturned(client, lease_id))

    # The GCS

    def _heartbeat(self) -> None:
        if self.is_alive:
            self._report_soon()
            self._fleet.timeline.after(HEARTBEAT_US, self._heartbeat)

    def _report_soon(self) -> None:
        if not self._is_reporting:
            self._is_reporting = True
            self._fleet.timeline.after(REPORT_US, self._report)

    def _report(self) -> None:
        self._is_reporting = False
        if self.is_alive:
            request = gm.ReportNode(self.node_id, self.leases.available_for_reports())
            self._fleet.call_gcs(self, "ReportNode", request)

    def call(self, method: str, request: Any) -> Any:
        """What the GCS asks. Away."""
        if not self.is_alive:
            raise Away
        fleet = self._fleet
        if method == "PlaceActor":
            if self.leases.pools.missing_for_ever(le.wanted_by(request.spec), group_target(request.spec.strategy)):
                return nm.PlaceActorReply(False, "it lacks something")
            self.tell(le.ActorRequested(request.spec, request.incarnation, request.restarts))
            return nm.PlaceActorReply(True)
        if method == "StopActor":
            self.tell(le.ActorCancelled(request.actor_id, request.incarnation, request.graceful, request.reason))
        elif method == "PrepareBundles":
            bundles = [(bundle.index, bundle.shape) for bundle in request.bundles]
            event = le.BundlesRequested(request.group_id, request.attempt, bundles, request.commit)
            self.tell(event)
            if not event.why_refused:
                fleet.books.reserved(self, request.group_id, bundles, fleet.strategies[request.group_id])
            return nm.PrepareBundlesReply(not event.why_refused, event.why_refused)
        elif method == "CommitBundles":
            self.tell(le.BundlesCommitted(request.group_id, request.attempt))
        else:
            assert method == "ReturnBundles", f"a node of a fleet has no method {method}"
            fleet.books.returned(self, request.group_id, None if request.removed else request.indices)
            if request.removed:
                self.tell(le.GroupRemoved(request.group_id, request.attempt, request.reason))
            else:
                self.tell(le.BundlesReturned(request.group_id, request.attempt, request.indices, "moved"))
        return gm.Empty()
