"""XGBoost configuration: a tracker in the controller, and every worker's function inside its communicator."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from raybook.train.backend import Backend, BackendConfig
from raybook.train.session import _worker_session
from raybook.train.worker_group import WorkerGroup
from raybook.util.node_address import get_node_ip_address

logger = logging.getLogger("raybook.train")

TRACKER_VARIABLE = "RAYBOOK_TRAIN_XGBOOST_TRACKER"
# The tracker's thread ends when all workers have left; one that was killed never does.
SHUTDOWN_TIMEOUT_S = 5.0


@dataclass
class XGBoostConfig(BackendConfig):
    """How the workers talk. xgboost_communicator: "rabit", the only one."""

    xgboost_communicator: str = "rabit"

    @property
    def backend_cls(self) -> type[Backend]:
        """The class of the backend. Raises NotImplementedError for another communicator."""
        if self.xgboost_communicator != "rabit":
            raise NotImplementedError(f"Unsupported backend: {self.xgboost_communicator}")
        return XGBoostBackend

    @property
    def train_func_context(self) -> Any:
        """Puts the function into the communicator."""
        return in_communicator

    @property
    def framework(self) -> str:
        """The framework's name."""
        return "xgboost"

    def to_dict(self) -> dict[str, Any]:
        """What of it can be shown."""
        return {"xgboost_communicator": self.xgboost_communicator}


class XGBoostBackend(Backend):
    """Runs the tracker, which tells the workers of each other."""

    def __init__(self) -> None:
        self._waiting: threading.Thread | None = None

    def on_training_start(self, worker_group: WorkerGroup, backend_config: BackendConfig) -> None:
        """Start the tracker and tell every worker where it is."""
        from xgboost.tracker import RabitTracker

        tracker = RabitTracker(n_workers=len(worker_group), host_ip=get_node_ip_address(), sortby="task")
        tracker.start()
        self._waiting = threading.Thread(target=tracker.wait_for, daemon=True)
        self._waiting.start()
        where = tracker.worker_args()
        worker_group.execute(
            remember_tracker, f"{where['dmlc_tracker_uri']} {where['dmlc_tracker_port']} {len(worker_group)}"
        )

    def on_shutdown(self, worker_group: WorkerGroup, backend_config: BackendConfig) -> None:
        """Wait for the tracker's end."""
        if self._waiting is not None:
            self._waiting.join(timeout=SHUTDOWN_TIMEOUT_S)
            if self._waiting.is_alive():
                logger.warning("XGBoost's tracker had not ended %s s after its workers.", SHUTDOWN_TIMEOUT_S)


def remember_tracker(where: str) -> None:
    """In a worker: keep the tracker's address for the function that comes."""
    os.environ[TRACKER_VARIABLE] = where


@contextmanager
def in_communicator() -> Iterator[None]:
    """Make the block a member of the group, if there is one (there is none in local mode)."""
    session = _worker_session("XGBoostTrainer")
    if not session.is_distributed:
        yield
        return
    from xgboost.collective import CommunicatorContext

    address, port, _ = os.environ[TRACKER_VARIABLE].split()
    # The tracker gives out ranks in the order of these names, so that they are the workers' own.
    name = f"[raybook-rank={session.context.get_world_rank():08}]"
    with CommunicatorContext(dmlc_tracker_uri=address, dmlc_tracker_port=int(port), dmlc_task_id=name):
        yield
