"""Rows that the GCS itself writes into the event table, and how they meet those of others about the same key.

A node's or actor's row has two authors: the GCS knows its state, its raylet or owner knows the figures. Whoever speaks
later, the GCS's fields are the GCS's.
"""

from __future__ import annotations

from raybook.base.facts import Fact, Row
from raybook.base.resources import to_user
from raybook.core.cluster.event_table import EventTable
from raybook.protocol.messages.gcs import ActorInfo, NodeInfo


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
    }


def actor_row(info: ActorInfo) -> Row:
    """What the GCS knows of an actor."""
    return {
        "actor_id": info.actor_id.hex(),
        "class_name": info.class_name,
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


def merged(table: EventTable, fact: Fact) -> Fact:
    """The fact, with fields of the present row that it does not mention. For rows with two authors only."""
    known = table.row(fact.kind, fact.key)
    return fact if known is None or fact.row is None else Fact(fact.kind, fact.key, {**known, **fact.row})
