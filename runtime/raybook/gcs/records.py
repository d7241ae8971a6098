"""How the GCS's tables are written down and read back: msgpack of the same structs, one row for each key.

A store says which schema it was written in. New fields with defaults are no new schema: an older raybook skips them, a
newer one fills them in. Whoever changes what a row means raises ``SCHEMA``, and an older raybook refuses the store.
"""

from __future__ import annotations

from typing import Any

import msgspec

from raybook.core.cluster.actor_record import ActorRecord
from raybook.core.cluster.actor_table import ActorTable
from raybook.core.cluster.job_table import JobRecord, JobTable
from raybook.core.cluster.kv_table import KvTable
from raybook.core.cluster.node_table import NodeTable
from raybook.core.cluster.placement_groups import GroupRecord, PlacementGroupTable
from raybook.io.storage import ACTORS, JOBS, KEY_VALUES, META, NODES, PLACEMENT_GROUPS, Storage, StoreError, Write
from raybook.protocol.messages.gcs import NodeInfo

_encode = msgspec.msgpack.encode

CLUSTER_ID_KEY = b"cluster_id"
SCHEMA_KEY = b"schema"
SCHEMA = 1
"""Stores without this key are of schema 1, too."""

_KINDS: dict[str, Any] = {ACTORS: ActorRecord, JOBS: JobRecord, NODES: NodeInfo, PLACEMENT_GROUPS: GroupRecord}


class SavedState(msgspec.Struct):
    """Everything an earlier GCS left."""

    cluster_id: bytes | None
    actors: list[ActorRecord]
    jobs: list[JobRecord]
    nodes: list[NodeInfo]
    key_values: list[tuple[str, bytes, bytes]]
    groups: list[GroupRecord]


def load(storage: Storage) -> SavedState:
    """Read the whole store. StoreError when it was written by a newer raybook, or holds rows that nobody wrote so."""
    meta = storage.load(META)
    written_in = meta.get(SCHEMA_KEY, b"1")
    if not written_in.isdigit() or int(written_in) > SCHEMA:
        raise StoreError(
            f"The GCS's store ({storage.description}) was written in schema {written_in.decode(errors='replace')}, and "
            f"this raybook knows schemas up to {SCHEMA}. Nothing was changed in it. Start it with the raybook that wrote "
            "it or a newer one, or give this one another --store."
        )
    decode = msgspec.msgpack.decode
    table = KEY_VALUES
    try:
        key_values = []
        for key, value in storage.load(KEY_VALUES).items():
            namespace, inner = decode(key, type=tuple[str, bytes])
            key_values.append((namespace, inner, value))
        rows: dict[str, list[Any]] = {}
        for table, kind in _KINDS.items():
            rows[table] = [decode(row, type=kind) for row in storage.load(table).values()]
    except msgspec.MsgspecError as error:
        raise StoreError(
            f"The GCS's store ({storage.description}) has a row in table {table} that cannot be read: {error}. Nothing was "
            "changed in it. Put a copy of it in its place, or start with another --store."
        ) from error
    return SavedState(
        meta.get(CLUSTER_ID_KEY), rows[ACTORS], rows[JOBS], rows[NODES], key_values, rows[PLACEMENT_GROUPS]
    )


def state_of(
    cluster_id: bytes, actors: ActorTable, jobs: JobTable, nodes: NodeTable, keys: KvTable, groups: PlacementGroupTable
) -> SavedState:
    """What the tables hold now."""
    found = [actors.record(info.actor_id) for info in actors.rows()]
    known = [record for record in found if record is not None]
    return SavedState(cluster_id, known, jobs.records(), nodes.infos(), list(keys.items()), groups.records())


def everything(state: SavedState) -> list[Write]:
    """All rows, for a store that has lost them."""
    return [
        *write_identity(state.cluster_id or b""),
        *(write_actor(record.spec.actor_id, record) for record in state.actors),
        *(write_job(record.job.job_id, record) for record in state.jobs),
        *(write_node(node) for node in state.nodes if node.alive),
        *(write_key(*row) for row in state.key_values),
        *(write_group(record.spec.group_id, record) for record in state.groups),
    ]


def write_identity(cluster_id: bytes) -> list[Write]:
    """What a new store says of itself."""
    return [Write(META, CLUSTER_ID_KEY, cluster_id), Write(META, SCHEMA_KEY, str(SCHEMA).encode())]


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
