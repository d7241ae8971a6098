"""Bundle keeper: what happens to leases and requests when bundles of placement groups come and go.

The part of the lease manager's decisions that is about placement groups; it works on the manager's own tables. Knows
nothing of who serves requests or when. Invariant: when a group is removed, nothing that drew from it keeps running, and
no task goes on waiting for it.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence
from typing import Any

from raybook.base.facts import GROUP_CREATED, GROUP_REMOVED
from raybook.core.node.lease_events import (
    BundlesCommitted,
    BundlesRequested,
    BundlesReturned,
    GroupRemoved,
    KillWorker,
    LeaseLostEffect,
    Refuse,
)
from raybook.core.node.lease_table import LeaseTable, WorkerState
from raybook.core.node.request_queue import Group, RequestQueue, shortage
from raybook.core.node.resource_pools import ResourcePools
from raybook.protocol.messages.gcs import PlacementGroupInfo

GROUP_REMOVED_CODE = "TaskPlacementGroupRemoved"
ATTEMPTS_ALL = 1 << 62


def outdated(
    group_id: bytes, held: Sequence[int], here: bytes, group: PlacementGroupInfo | None
) -> GroupRemoved | BundlesReturned | None:
    """What becomes of the bundles that this node holds of a group, by what a GCS that was started anew knows of it: the one
    before may have ended between writing a removal down and telling this node. group: None when it is not known."""
    if group is None:
        return GroupRemoved(group_id, ATTEMPTS_ALL, "the cluster does not know it any more")
    if group.state == GROUP_REMOVED:
        return GroupRemoved(group_id, group.attempt, group.death)
    elsewhere = [index for index in held if group.nodes[index] not in (here, b"")]
    if group.state == GROUP_CREATED and elsewhere:
        return BundlesReturned(group_id, group.attempt, elsewhere, "Its bundle moved away.")
    return None


class BundleKeeper:
    """``short_of``: bundles that could not be reserved just now, as requests; who could make room for them is asked once.
    Every method returns effects."""

    def __init__(self, table: LeaseTable, queue: RequestQueue, pools: ResourcePools) -> None:
        self.short_of: list[Group] = []
        self._table = table
        self._queue = queue
        self._pools = pools

    def requested(self, event: BundlesRequested) -> list[Any]:
        """Reserve, all or none."""
        event.why_refused = self._pools.prepare(event.group_id, event.attempt, event.bundles, event.commit)
        if event.why_refused:
            self.short_of.append(shortage(event.group_id, event.attempt, event.bundles))
        elif event.commit:
            self._came(event.group_id)
        return []

    def committed(self, event: BundlesCommitted) -> list[Any]:
        """They may be used."""
        self._pools.commit(event.group_id, event.attempt)
        self._came(event.group_id)
        return []

    def returned(self, event: BundlesReturned) -> list[Any]:
        """They are somewhere else now, or nowhere; their holders end like those of a crash."""
        return self._end(self._pools.give_back(event.group_id, event.attempt, event.indices), event.reason)

    def removed(self, event: GroupRemoved) -> list[Any]:
        """The whole group is gone for good."""
        reason = f"Its placement group {event.group_id.hex()} was removed: {event.reason}"
        effects = self._end(self._pools.remove(event.group_id, event.attempt, event.reason), reason, GROUP_REMOVED_CODE)
        for request in self._queue.of_group(event.group_id):
            if request.actor is None:  # Actors are ended by the GCS, which knows their names and handles.
                self._queue.remove(request.key)
                effects.append(self.refusal(request.client, request.class_key, request.name, event.group_id))
        return effects

    def refusal(self, client: bytes, class_key: int, name: str, group_id: bytes) -> Refuse:
        """What a client hears that asks for a bundle of a removed group."""
        why = self._pools.removed[group_id]
        text = f"`{name}` was to run in placement group {group_id.hex()}, which was removed: {why}"
        return Refuse(client, class_key, GROUP_REMOVED_CODE, text)

    def _came(self, group_id: bytes) -> None:
        """What waited for the group can be compared with its bundles now."""
        for group in self._queue:
            if group.target is not None and group.target.group_id == group_id:
                group.missing = self._pools.missing_for_ever(group.shape, group.target)

    def _end(self, lease_ids: Iterable[Hashable], reason: str, code: str = "") -> list[Any]:
        """Whoever runs under these leases is ended. Owners are told now and with our reason: what ``waitpid`` will say
        is a signal."""
        effects: list[Any] = []
        ended = dict.fromkeys(lease_ids)
        for worker in list(self._table.workers.values()) if ended else ():
            lease = worker.lease
            if lease is None or lease.lease_id not in ended or worker.state is WorkerState.ENDING:
                continue
            if worker.state is WorkerState.LEASED and lease.orphan_deadline_ms is None:
                effects.append(LeaseLostEffect(lease.client, lease.lease_id, True, reason, code=code))
            effects.append(KillWorker(worker.worker_id, reason))
            self._table.set_ending(worker)
        return effects
