"""The GCS's rows in the event table, how they meet those of others about the same key, and who is looking.

A node's or actor's row has two authors: the GCS knows its state, its raylet or owner knows the figures. Whoever speaks
later, the GCS's fields are the GCS's. Whoever asked within ``OBSERVED_MS`` is still looking, and processes send task
facts only while somebody is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from raybook.base.facts import Fact, Row
from raybook.base.names import short
from raybook.base.resources import to_user
from raybook.core.cluster.event_table import EventTable
from raybook.protocol.messages.gcs import ActorInfo, FactsReply, NodeInfo, PlacementGroupInfo

OBSERVED_MS = 2_000
"""Eight polls at the panels' 4 Hz: a viewer that missed one is not taken for gone."""

OwnedRow = Callable[[str, bytes], Row]
"""(kind, key) → what the GCS itself knows of it, {} for nothing."""


class FactDesk:
    """The event table with its two kinds of authors and its observers."""

    def __init__(self, rows_max: int, owned_row: OwnedRow) -> None:
        self._events = EventTable(rows_max)
        self._owned_row = owned_row
        self._observed_until_ms: int | None = None

    @property
    def is_observed(self) -> bool:
        """Somebody is looking, as far as we have been told."""
        return self._observed_until_ms is not None

    def add(self, facts: Iterable[Fact]) -> None:
        """Facts of others."""
        self._events.add(self._reconciled(fact) for fact in facts)

    def rows(self, kind: str) -> list[Row]:
        """The present rows of a kind."""
        return self._events.rows(kind)

    def refresh(self, kind: str, key: bytes) -> None:
        """The GCS's own fields of a row have changed."""
        owned = self._owned_row(kind, key)
        if owned:
            self._events.add([self._merged(Fact(kind, key.hex(), owned))])

    def read(self, since_version: int, now_ms: int) -> tuple[FactsReply, bool]:
        """What changed, and whether this reader is the first one to look."""
        first = not self.is_observed
        self._observed_until_ms = now_ms + OBSERVED_MS
        delta = self._events.delta_since(since_version)
        return FactsReply(delta.since, delta.version, delta.facts, delta.reset), first

    def look_again_ms(self, now_ms: int) -> int | None:
        """When to ask again whether anybody looks; None when nobody does any more."""
        if self._observed_until_ms is not None and self._observed_until_ms <= now_ms:
            self._observed_until_ms = None
        return self._observed_until_ms

    def _reconciled(self, fact: Fact) -> Fact:
        if fact.row is None or fact.kind not in ("actor", "node", "placement_group"):
            return fact
        try:
            owned = self._owned_row(fact.kind, bytes.fromhex(fact.key))
        except ValueError:  # No id of ours; then none of our fields either.
            owned = {}
        return self._merged(Fact(fact.kind, fact.key, {**fact.row, **owned}))

    def _merged(self, fact: Fact) -> Fact:
        """The fact, with fields of the present row that it does not mention."""
        known = self._events.row(fact.kind, fact.key)
        return fact if known is None or fact.row is None else Fact(fact.kind, fact.key, {**known, **fact.row})


def node_row(node: NodeInfo) -> Row:
    """What the GCS knows of a node."""
    return {
        "node_id": node.node_id.hex(),
        "alive": node.alive,
        "address": node.ip,
        "hostname": node.hostname,
        "pid": node.pid,
        "is_head": node.is_head,
        "resources_total": to_user(node.resources_total),
        "resources_available": to_user(node.resources_available),
        "death": node.death_reason,
        "draining": node.draining if node.alive else "",
        "left": bool(node.draining) and not node.alive,
    }


def actor_row(info: ActorInfo) -> Row:
    """What the GCS knows of an actor."""
    return {
        "actor_id": info.actor_id.hex(),
        "class_name": short(info.class_name),
        "name": info.name,
        "namespace": info.namespace,
        "state": info.state,
        "pid": info.pid,
        "node_id": info.node_id.hex(),
        "restarts": info.incarnation,
        "waiting": info.waiting,
        "death": info.death,
        "detached": info.detached,
        "resources": to_user(info.resources),
    }


def placement_group_row(info: PlacementGroupInfo) -> Row:
    """What the GCS knows of a placement group."""
    return {
        "group_id": info.spec.group_id.hex(),
        "name": info.spec.name,
        "state": info.state,
        "strategy": info.spec.strategy,
        "bundles": [to_user(bundle.shape) for bundle in info.spec.bundles],
        "nodes": [node.hex() for node in info.nodes],
        "waiting": info.waiting or info.death,
    }
