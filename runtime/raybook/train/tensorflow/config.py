"""TensorFlow configuration: TF_CONFIG, by which `MultiWorkerMirroredStrategy` finds the other workers."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass

from raybook import api
from raybook.train.addresses import free_address, joined
from raybook.train.backend import Backend, BackendConfig
from raybook.train.worker_group import WorkerGroup


@dataclass
class TensorflowConfig(BackendConfig):
    """Nothing to set: TensorFlow's workers need addresses only, which the backend finds."""

    @property
    def backend_cls(self) -> type[Backend]:
        """The class of the backend."""
        return TensorflowBackend

    @property
    def framework(self) -> str:
        """The framework's name."""
        return "tensorflow"


class TensorflowBackend(Backend):
    """Finds an address on each worker and tells them all."""

    def on_start(self, worker_group: WorkerGroup, backend_config: BackendConfig) -> None:
        """Tell every worker who is where."""
        addresses = [joined(*address) for address in worker_group.execute(free_address)]
        api.get(
            [
                worker_group.execute_single_async(rank, set_tf_config, addresses, rank)
                for rank in range(len(worker_group))
            ]
        )


def set_tf_config(addresses: list[str], rank: int) -> None:
    """In a worker: set what TensorFlow reads."""
    task = {"type": "worker", "index": rank}
    os.environ["TF_CONFIG"] = json.dumps({"cluster": {"worker": addresses}, "task": task})
    os.environ["TF_USE_LEGACY_KERAS"] = "1"
