"""The clusters of this user as views may see them: which there are, and which one a kernel owns.

Three views (sidebar and chip, magics, command line) read one registry through this module, so they cannot disagree.
Light on purpose: the Jupyter server imports it in an environment that need not be the kernel's.
"""

from __future__ import annotations

from pathlib import Path

from raybook.io.cluster_registry import ClusterRecord, Owner, list_records, registry_dir

__all__ = ["ClusterRecord", "Owner", "cluster_of_kernel", "find_cluster", "living_clusters", "registry_dir"]

ID_PREFIX_MIN = 4
"""Fewer characters of a cluster's id would name another one by accident."""


def living_clusters(directory: Path | None = None) -> list[ClusterRecord]:
    """All clusters of this user whose head runs, oldest first. Cost: one small file and one /proc read for each."""
    return list_records(registry_dir() if directory is None else directory)


def cluster_of_kernel(kernel_id: str, directory: Path | None = None) -> ClusterRecord | None:
    """The newest living cluster that this kernel owns; None when it owns none. Cost: as `living_clusters`."""
    owned = [
        record
        for record in living_clusters(directory)
        if record.owner is not None and kernel_id and record.owner.kernel_id == kernel_id
    ]
    return owned[-1] if owned else None


def find_cluster(wanted: str, directory: Path | None = None) -> ClusterRecord | None:
    """The living cluster with this name, address, id or beginning of an id; the newest when a name is used twice. None
    when there is none. Cost: as `living_clusters`."""
    newest_first = list(reversed(living_clusters(directory)))
    for record in newest_first:
        if wanted in (record.name, record.cluster_id, record.address, record.node_socket, record.session_dir):
            return record
    if len(wanted) >= ID_PREFIX_MIN:
        for record in newest_first:
            if record.cluster_id.startswith(wanted):
                return record
    return None
