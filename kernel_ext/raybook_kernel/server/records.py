"""What of a cluster's record may leave the machine, by naming it.

A list of what is let through, not of what is held back: a field added to the record tomorrow stays here until someone
decides otherwise. Held back today are the token's file, the session folder and the raylet's socket.
"""

from __future__ import annotations

from typing import Any

from raybook.observe.clusters import ClusterRecord


def public_record(record: ClusterRecord) -> dict[str, Any]:
    """The JSON of one cluster (labextension/src/state/describe.ts reads it). Amounts in whole units."""
    return {
        "cluster_id": record.cluster_id,
        "name": record.name,
        "address": record.address,
        "head_pid": record.head_pid,
        "owner_kernel_id": record.owner.kernel_id if record.owner else None,
        "persist": record.persist,
        "env_prefix": record.env_prefix,
        "python_version": record.python_version,
        "raybook_version": record.raybook_version,
        "created_unix_ms": record.created_unix_ms,
        "resources": record.resources,
        "idle_timeout_s": record.idle_timeout_s,
        "idle_since_unix_ms": record.idle_since_unix_ms,
    }
