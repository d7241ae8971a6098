"""A cluster that is only a script of facts: what the notebook's magics reach instead of the runtime's API.

Has the methods of ``raybook_kernel.cluster_access.ClusterAccess`` and keeps their contracts; records what was asked.
"""

from __future__ import annotations

import os
from typing import Any

from raybook.io.cluster_registry import ClusterRecord, Owner, remove_record, write_record
from raybook.io.process import start_time
from raybook.observe import find_cluster, living_clusters, registry_dir
from raybook.testing.scripted_facts import ScriptedFacts


class ScriptedCluster:
    """At most one connection to one scripted source of facts. The registry is the real one."""

    def __init__(self) -> None:
        self.source: ScriptedFacts | None = None
        self.started_with: dict[str, Any] = {}
        self.is_interrupted = False
        self._record: ClusterRecord | None = None

    def start(self, **options: Any) -> None:
        """Write a record whose head is this very process, and connect."""
        self.started_with = options
        pid = os.getpid()
        started = start_time(pid) or 0
        name = options.get("name") or "scripted"
        self._record = ClusterRecord(
            cluster_id=f"{pid:08x}{started:08x}",
            name=name,
            address="",
            node_socket=f"unix:/nowhere/{name}",
            session_dir=f"/nowhere/{name}",
            token_file="",
            head_pid=pid,
            head_start_time=started,
            owner=None if options.get("persist") else Owner(pid, started),
            persist=bool(options.get("persist")),
            resources={"CPU": float(options.get("num_cpus") or 8)},
        )
        write_record(self._record, registry_dir())
        self.source = ScriptedFacts()

    def start_nodes(self, count: int, hosts: Any = None, say: Any = print, **options: Any) -> None:
        """As ``start``; how many nodes, and which machines, is only noted."""
        self.start(**options)
        self.started_with = {**options, "nodes": count, "hosts": hosts}

    def scale(self, count: int, say: Any = print) -> int:
        """Notes the number."""
        if count < 1:
            raise ValueError(f"A cluster has one node at least, got {count}. `shutdown` ends it.")
        self.started_with["scaled_to"] = count
        return count

    def node_rows(self) -> list[dict[str, Any]]:
        """One node."""
        return [{"NodeID": "ab" * 14, "Alive": True, "IsHeadNode": True, "NodeManagerAddress": "127.0.0.1",
                 "Resources": {"CPU": 8.0}, "AvailableResources": {"CPU": 8.0}, "DrainReason": ""}]  # fmt: skip

    def connect(self, address: str, session: str = "", token_file: str = "", engine: str | None = None) -> None:
        """ConnectionError unless a record has this address, or the engine is Ray: then it is only noted."""
        if engine == "ray":
            self.started_with, self.source = {"engine": engine, "address": address}, ScriptedFacts()
            return
        record = find_cluster(address)
        if record is None:
            raise ConnectionError(f"Nobody answers at {address}. Nothing was changed. Check the address.")
        self._record, self.source = record, ScriptedFacts()

    def ray_title(self) -> str:
        """The address, where the engine is Ray."""
        address = self.started_with.get("address", "")
        return f"Ray at {address}" if address and self.source is not None else ""

    def session_text(self) -> str:
        """There is none."""
        return ""

    def leave(self) -> None:
        """Disconnect; an owned cluster ends."""
        record, self._record = self._record, None
        if record is not None and not record.persist:
            remove_record(record.cluster_id, registry_dir())
        if self.source is not None:
            self.source.close()
            self.source = None

    def engine(self) -> ScriptedFacts | None:
        """The source of facts."""
        return self.source

    def record(self) -> ClusterRecord | None:
        """Of the cluster this process is connected to."""
        return self._record

    def clusters(self) -> list[ClusterRecord]:
        """From the real registry."""
        return living_clusters()

    def stop_cluster(self, record: ClusterRecord) -> bool:
        """Forget its record."""
        self.leave()
        remove_record(record.cluster_id, registry_dir())
        return True
