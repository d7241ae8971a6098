"""How the GCS's tables are written down and read back: msgpack of the same structs, one row for each key."""

from __future__ import annotations

import msgspec

from raybook.core.cluster.actor_record import ActorRecord
from raybook.core.cluster.job_table import JobRecord
from raybook.core.cluster.placement_groups import GroupRecord
from raybook.io.storage import ACTORS, JOBS, KEY_VALUES, META, NODES, PLACEMENT_GROUPS, Storage, Write
from raybook.protocol.messages.gcs import NodeInfo

_encode = msgspec.msgpack.encode

CLUSTER_ID_KEY = b"cluster_id"


class SavedState(msgspec.Struct):
    """Everything an earlier GCS left."""

    cluster_id: bytes | None
    actors: list[ActorRecord]
    jobs: list[JobRecord]
    nodes: list[NodeInfo]
    key_values: list[tuple[str, bytes, bytes]]
    groups: list[GroupRecord]


def load(storage: Storage) -> SavedState:
    """Read the whole store. msgspec.MsgspecError when it holds rows of an incompatible version."""
    decode = msgspec.msgpack.decode
    key_values = []
    for key, value in storage.load(KEY_VALUES).items():
        namespace, inner = decode(key, type=tuple[str, bytes])
        key_values.append((namespace, inner, value))
    return SavedState(
        cluster_id=storage.load(META).get(CLUSTER_ID_KEY),
        actors=[decode(row, type=ActorRecord) for row in storage.load(ACTORS).values()],
        jobs=[decode(row, type=JobRecord) for row in storage.load(JOBS).values()],
        nodes=[decode(row, type=NodeInfo) for row in storage.load(NODES).values()],
        key_values=key_values,
        groups=[decode(row, type=GroupRecord) for row in storage.load(PLACEMENT_GROUPS).values()],
    )


def write_cluster_id(cluster_id: bytes) -> Write:
    return Write(META, CLUSTER_ID_KEY, cluster_id)


def write_actor(actor_id: bytes, record: ActorRecord | None) -> Write:
    return Write(ACTORS, actor_id, None if record is None else _encode(record))


def write_group(group_id: bytes, record: GroupRecord | None) -> Write:
    return Write(PLACEMENT_GROUPS, group_id, None if record is None else _encode(record))


def write_job(job_id: bytes, record: JobRecord | None) -> Write:
    return Write(JOBS, job_id, None if record is None else _encode(record))


def write_node(node: NodeInfo) -> Write:
    """Living nodes are kept, dead ones are not: no later GCS needs them."""
    return Write(NODES, node.node_id, _encode(node) if node.alive else None)


def write_key(namespace: str, key: bytes, value: bytes | None) -> Write:
    return Write(KEY_VALUES, _encode((namespace, key)), value)
