"""Out of reach: what becomes of what this process has of another one, and the other of it, when no connection is left.

                      it died, or closed                    the network between the two broke (*cut off*)
    leases of it      the raylet's word on them is final    the same, but what is unanswered may have run
    calls of it       wait for the GCS's word               fail with a reason, or are sent again if they have retries
    its objects       are lost, with the reason if its      are lost to this process
                      node died: that is heard a moment later
    what it borrowed  is given back at once                 stays for ``grace_ms``: it may go on reading until the same
                                                            rule has told it that its owner is gone

Knows nothing of how a task fails or an object gets its value. Source: decision 0043.
"""

from __future__ import annotations

from collections.abc import Callable

from raybook.base.ids import owner_of
from raybook.base.specs import ErrorValue
from raybook.core.owner.actor_calls import ActorCalls
from raybook.core.owner.borrows import Borrows
from raybook.core.owner.lease_endings import LeaseEndings
from raybook.core.owner.lease_requester import LeaseRequester
from raybook.core.owner.records import PeerGone, TaskRecord
from raybook.core.owner.recovery import Recovery
from raybook.core.owner.reference_counter import ReferenceCounter
from raybook.protocol.messages.raylet import NodeGone

REASON_MS = 300
"""A process on another node that closed is said to have died after this at the latest. If its node died, that is known by
then, and why."""
GRACE_SHARE = 3.0
"""Of the health check's time-out: twice what the kernel needs to notice (``io/keepalive``)."""


class OutOfReach:
    """One per owner machine. fail, end_cancelled: how the owner ends a task. lose(key, event): a borrowed object's owner
    is out of reach."""

    def __init__(
        self,
        health_timeout_ms: int,
        references: ReferenceCounter,
        borrows: Borrows,
        leases: LeaseRequester,
        endings: LeaseEndings,
        actors: ActorCalls,
        recovery: Recovery,
        fail: Callable[[TaskRecord, ErrorValue], None],
        end_cancelled: Callable[[TaskRecord], None],
        lose: Callable[[bytes, PeerGone], None],
    ) -> None:
        self._grace_ms = int(GRACE_SHARE * health_timeout_ms)
        self._references = references
        self._borrows = borrows
        self._leases = leases
        self._endings = endings
        self._actors = actors
        self._recovery = recovery
        self._fail = fail
        self._end_cancelled = end_cancelled
        self._lose = lose
        self._parted: dict[bytes, int] = {}
        """Processes that were cut off → when they have given up what they borrowed."""
        self._closed: dict[bytes, tuple[int, PeerGone]] = {}
        """Processes on other nodes that closed → when their objects are lost, whatever the reason."""

    def peer_gone(self, event: PeerGone, now_ms: int) -> None:
        """No connection to a process is left."""
        client_id = event.client_id
        self._endings.end(self._leases.out_of_reach(client_id, now_ms, event.is_cut_off), now_ms)
        if event.is_cut_off:
            self._parted[client_id] = now_ms + self._grace_ms
            self._borrows.on_client_cut_off(client_id)
            for record, error in self._actors.cut_off(client_id, event.reason):
                if record.cancelled:
                    self._end_cancelled(record)
                else:
                    self._fail(record, error)
        else:
            self._parted.pop(client_id, None)
            self._borrows.on_client_gone(client_id)
        if event.home and not event.reason:
            self._closed[client_id] = (now_ms + REASON_MS, event)
        else:
            self._lose_objects(event)

    def node_gone(self, message: NodeGone) -> None:
        """A node is dead, and what lay there is lost. Why some of its processes closed is known now."""
        self._recovery.node_gone(message.node_id, message.reason)
        for client_id, (_, event) in list(self._closed.items()):
            if event.home == message.home:
                del self._closed[client_id]
                self._lose_objects(PeerGone(client_id, why_node_died(message)))

    def _lose_objects(self, event: PeerGone) -> None:
        for key in [key for key in self._references.owners if owner_of(key) == event.client_id]:
            self._lose(key, event)

    def tick(self, now_ms: int) -> None:
        for client_id, (due_ms, event) in list(self._closed.items()):
            if due_ms <= now_ms:
                del self._closed[client_id]
                self._lose_objects(event)
        for client_id in [client_id for client_id, due_ms in self._parted.items() if due_ms <= now_ms]:
            del self._parted[client_id]
            self._borrows.give_up(client_id)

    def next_deadline_ms(self) -> int | None:
        deadlines = [*self._parted.values(), *(due_ms for due_ms, _ in self._closed.values())]
        return min(deadlines) if deadlines else None


def why_node_died(message: NodeGone) -> str:
    """Why a process of that node is gone."""
    return f"its node {message.node_id.hex()} died: {message.reason}"
