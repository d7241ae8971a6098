"""Job table: which drivers came, which are still here. One writer and no deadline, so a dictionary with manners.

Invariant: a job ends once; what is told about it afterwards changes nothing.
"""

from __future__ import annotations

import msgspec

from raybook.protocol.messages.gcs import JobInfo, RegisterJob
from raybook.protocol.messages.output import WorkerLine


class JobRecord(msgspec.Struct):
    """One driver's visit. ``ended_ms`` 0: it is still here."""

    job: RegisterJob
    started_ms: int
    ended_ms: int = 0
    reason: str = ""


class JobTable:
    """Jobs by id, oldest first; ``ended_max`` ended ones are remembered."""

    def __init__(self, ended_max: int = 1_000) -> None:
        self._ended_max = ended_max
        self._jobs: dict[bytes, JobRecord] = {}
        self._ended: dict[bytes, None] = {}

    def load(self, records: list[JobRecord]) -> None:
        """Take over what an earlier GCS wrote down."""
        for record in records:
            self._jobs[record.job.job_id] = record
            if record.ended_ms:
                self._ended[record.job.job_id] = None

    def register(self, job: RegisterJob, now_ms: int) -> JobRecord:
        """A driver came. One that registers again (after a lost reply) keeps its first time."""
        record = self._jobs.get(job.job_id)
        if record is None:
            record = self._jobs[job.job_id] = JobRecord(job, now_ms)
        return record

    def finish(self, job_id: bytes, reason: str, now_ms: int) -> JobRecord | None:
        """The driver left. None when there is nothing to end."""
        record = self._jobs.get(job_id)
        if record is None or record.ended_ms:
            return None
        record.ended_ms, record.reason = now_ms, reason
        self._ended[job_id] = None
        return record

    def forget_oldest(self) -> bytes | None:
        """Drop one ended job beyond the limit; its id, or None when all fit."""
        if len(self._ended) <= self._ended_max:
            return None
        oldest = next(iter(self._ended))
        del self._ended[oldest], self._jobs[oldest]
        return oldest

    def get(self, job_id: bytes) -> JobRecord | None:
        return self._jobs.get(job_id)

    def records(self) -> list[JobRecord]:
        """All that are remembered, oldest first."""
        return list(self._jobs.values())

    def of_driver(self, client_id: bytes) -> JobRecord | None:
        """The latest job of a driver. Cost: one pass, newest first; asked once for each driver that leaves."""
        return next((r for r in reversed(self._jobs.values()) if r.job.driver.client_id == client_id), None)

    def lines_by_node(self, lines: list[WorkerLine]) -> dict[bytes, list[WorkerLine]]:
        """Where the drivers are that these lines were printed for; those of jobs that have ended are left out."""
        by_node: dict[bytes, list[WorkerLine]] = {}
        for line in lines:
            record = self._jobs.get(bytes.fromhex(line.job))
            if record is not None and not record.ended_ms:
                by_node.setdefault(record.job.driver.node_id, []).append(line)
        return by_node

    def rows(self) -> list[JobInfo]:
        """All that are remembered, oldest first."""
        return [
            JobInfo(
                record.job.job_id,
                record.job.driver.node_id,
                record.job.pid,
                record.job.namespace,
                record.job.entrypoint,
                record.started_ms,
                record.ended_ms,
                record.reason,
            )
            for record in self._jobs.values()
        ]

    def running(self) -> list[JobRecord]:
        return [record for record in self._jobs.values() if not record.ended_ms]

    def story(self, key: bytes) -> str:
        """What happened to one job."""
        record = self._jobs.get(key)
        if record is None:
            return f"Job {key.hex()} is not in the table."
        text = f"Job {key.hex()} (pid {record.job.pid}) started at {record.started_ms} ms"
        return text + (f" and ended at {record.ended_ms} ms: {record.reason}" if record.ended_ms else " and runs.")

    def check_invariants(self) -> None:
        for job_id, record in self._jobs.items():
            assert (job_id in self._ended) == bool(record.ended_ms), f"Job {job_id.hex()} is filed wrongly."
