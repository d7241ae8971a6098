"""global_worker: who this process is, for code that asks Ray's worker object. New code asks ``get_runtime_context``."""

from __future__ import annotations

from typing import Any

from raybook.api import JobID, NodeID, WorkerID
from raybook.api.context import WORKER, current_runtime, started_engine

SCRIPT_MODE, WORKER_MODE, LOCAL_MODE = 0, 1, 2


class Worker:
    """A view; it holds nothing. RuntimeError for ids while nothing is started."""

    @property
    def connected(self) -> bool:
        """Whether raybook is started here."""
        return current_runtime.engine is not None

    @property
    def mode(self) -> int | None:
        """SCRIPT_MODE, WORKER_MODE or LOCAL_MODE; None while nothing is started."""
        if not self.connected:
            return None
        return {WORKER: WORKER_MODE, "local": LOCAL_MODE}.get(current_runtime.mode, SCRIPT_MODE)

    @property
    def worker_id(self) -> bytes:
        """Of this process."""
        return started_engine().client_id

    @property
    def current_worker_id(self) -> WorkerID:
        """The same, as an id."""
        return WorkerID(started_engine().client_id)

    @property
    def current_job_id(self) -> JobID:
        """Of this driver's work."""
        return JobID(started_engine().job_id)

    @property
    def current_node_id(self) -> NodeID:
        """Of this node."""
        return NodeID(started_engine().node_id)

    @property
    def namespace(self) -> str:
        """In which names are looked up."""
        return started_engine().namespace

    def check_connected(self) -> None:
        """RuntimeError while nothing is started."""
        started_engine()


global_worker: Any = Worker()
