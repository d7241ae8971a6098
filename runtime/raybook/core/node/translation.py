"""Translation: what a client's message means to the deciders of its node, and what their effects mean to a client.

Tables and nothing else: no state, no order, no delivery. A client is named by its id.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from raybook.core.node import lease_events as le
from raybook.core.node import store_events as ev
from raybook.protocol.messages import raylet as rm
from raybook.protocol.messages import store as sm

LEASE_EVENTS: dict[type, Callable[[bytes, Any], Any]] = {
    rm.SetDemand: lambda client, m: le.DemandSet(client, m.class_key, m.scheduling_class, m.count, m.name),
    rm.ReturnLease: lambda client, m: le.LeaseReturned(client, m.lease_id, m.worker_broken),
    rm.RevokeAnswer: lambda client, m: le.RevokeAnswered(client, m.epoch, m.idle),
    rm.Blocked: lambda client, m: le.WorkerBlocked(client),
    rm.Unblocked: lambda client, m: le.WorkerUnblocked(client),
}
"""Messages to the lease manager: (client, message) → event."""

STORE_EVENTS: dict[type, Callable[[bytes, Any], ev.Event]] = {
    sm.RequestExtent: lambda client, m: ev.ExtentRequested(client, m.request_id, m.bytes_wanted),
    sm.ReturnExtent: lambda client, m: ev.ExtentReturned(client, m.offset, m.warm_bytes, m.size),
    sm.Sealed: lambda client, m: ev.RegionSealed(client, m.object_id, m.owner_id, m.offset, m.size),
    sm.FreeRegions: lambda client, m: ev.RegionsFreed(client, m.offsets, m.object_ids),
    sm.RecallAnswered: lambda client, m: ev.RecallAnswered(client, m.query_id),
    sm.ReclaimAck: lambda client, m: ev.ReclaimAcked(client, m.query_id),
}
"""Messages to the object table: (client, message) → event."""

STORE_MESSAGES: dict[type, Callable[[Any], Any]] = {
    ev.GrantExtent: lambda e: sm.ExtentGranted(e.request_id, e.offset, e.size, e.warm_bytes),
    ev.ForwardFree: lambda e: sm.RegionsFreed(e.offsets),
    ev.AskReclaim: lambda e: sm.ReclaimQuery(e.query_id, e.ranges),
    ev.RecallIdle: lambda e: sm.RecallIdle(e.query_id, e.bytes_wanted),
}
"""Effects of the object table that are messages to ``effect.client_id``."""

LEASE_MESSAGES: dict[type, Callable[[Any], tuple[bytes, Any]]] = {
    le.LeaseLostEffect: lambda e: (
        e.client,
        rm.LeaseLost(e.lease_id, e.died, e.reason, e.exit_code, e.out_of_memory, e.code),
    ),
    le.Infeasible: lambda e: (e.client, rm.DemandInfeasible(e.class_key, e.text)),
    le.Refuse: lambda e: (e.client, rm.DemandRefused(e.class_key, e.code, e.text)),
    le.AskRevoke: lambda e: (e.worker, rm.RevokeLease(e.epoch, e.drain)),
    le.StartActorOn: lambda e: (e.worker, rm.StartActor(e.spec, e.assignment, e.restarts)),
}
"""Effects of the lease manager that are a message: (receiver, message)."""


def lease_granted(grant: le.Grant, worker: Any, pid: int) -> rm.LeaseGranted:
    """The message to ``grant.client``. worker: the Endpoint of the worker, pid: its process."""
    return rm.LeaseGranted(grant.class_key, grant.lease_id, grant.epoch, worker, grant.assignment, pid)
