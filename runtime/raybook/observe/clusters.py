"""Clusters of this user, as any view may list them: the registry's public face for magics and the server extension."""

from __future__ import annotations

import os
from collections.abc import Mapping

from raybook.io.cluster_registry import ClusterRecord, Owner, list_records, registry_dir

__all__ = ["ClusterRecord", "Owner", "find_cluster", "list_clusters", "registry_dir"]


def list_clusters(environ: Mapping[str, str] = os.environ) -> list[ClusterRecord]:
    """All living clusters, oldest first. Cost: one small file and one /proc read for each."""
    return list_records(registry_dir(environ))


def find_cluster(wanted: str, environ: Mapping[str, str] = os.environ) -> ClusterRecord | None:
    """The living cluster with this name, id, id prefix (four characters or more) or address; the newest when a name
    is used twice. None when there is none."""
    newest_first = list(reversed(list_clusters(environ)))
    for record in newest_first:
        if wanted in (record.name, record.cluster_id, record.address, record.node_socket):
            return record
    if len(wanted) >= 4:
        for record in newest_first:
            if record.cluster_id.startswith(wanted):
                return record
    return None
