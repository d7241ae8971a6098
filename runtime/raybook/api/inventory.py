"""Inventory: drivers' jobs and the cluster's processes, asked of the GCS and the raylets. One round trip each."""

from __future__ import annotations

from typing import Any

from raybook.api.context import started_engine
from raybook.protocol.messages.gcs import ClusterStatus, ListJobs, ListWorkers


def job_rows() -> list[dict[str, Any]]:
    """One dict a job, oldest first, ended ones as long as they are remembered. ended_ms: 0 while its driver is here."""
    return [
        {
            "job_id": job.job_id.hex(),
            "node_id": job.node_id.hex(),
            "pid": job.pid,
            "namespace": job.namespace,
            "entrypoint": job.entrypoint,
            "started_ms": job.started_ms,
            "ended_ms": job.ended_ms,
            "reason": job.reason,
        }
        for job in started_engine().gcs_call("ListJobs", ListJobs()).jobs
    ]


def waiting_lines() -> list[str]:
    """A line for each actor and placement group that waits for room, with what it lacks."""
    return list(started_engine().gcs_call("ClusterStatus", ClusterStatus()).waiting)


def worker_rows() -> list[dict[str, Any]]:
    """One dict a worker process of the living nodes. state: STARTING IDLE LEASED ACTOR EXITING."""
    return [
        {
            "worker_id": worker.worker_id.hex(),
            "pid": worker.pid,
            "state": worker.state,
            "node_id": worker.node_id.hex(),
            "actor_id": worker.actor_id.hex(),
        }
        for worker in started_engine().gcs_call("ListWorkers", ListWorkers()).workers
    ]
