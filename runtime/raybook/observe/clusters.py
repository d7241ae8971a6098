"""The clusters of this user as views may see them: which there are, and which one a kernel owns.

Three views (sidebar and chip, magics, command line) read one registry through this module, so they cannot disagree.
Light on purpose: the Jupyter server imports it in an environment that need not be the kernel's.
"""

from __future__ import annotations

from pathlib import Path

from raybook.io.cluster_registry import ClusterRecord, list_records, registry_dir


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
