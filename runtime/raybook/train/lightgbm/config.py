"""LightGBM configuration: the addresses by which its workers find each other."""

from __future__ import annotations

import json
import logging
import os
from dataclasses import dataclass
from typing import Any

from raybook import api
from raybook.train.addresses import free_address, joined
from raybook.train.backend import Backend, BackendConfig
from raybook.train.worker_group import WorkerGroup

logger = logging.getLogger("raybook.train")

NETWORK_VARIABLE = "RAYBOOK_TRAIN_LIGHTGBM_NETWORK"


@dataclass
class LightGBMConfig(BackendConfig):
    """Nothing to set: LightGBM's network needs addresses only, which the backend finds."""

    @property
    def backend_cls(self) -> type[Backend]:
        """The class of the backend."""
        return LightGBMBackend

    @property
    def framework(self) -> str:
        """The framework's name."""
        return "lightgbm"


class LightGBMBackend(Backend):
    """Finds an address on each worker and tells them all."""

    def on_training_start(self, worker_group: WorkerGroup, backend_config: BackendConfig) -> None:
        """Tell every worker who is where."""
        addresses = worker_group.execute(free_address)
        machines = ",".join(joined(*address) for address in addresses)
        api.get(
            [
                worker_group.execute_single_async(rank, remember_network, len(worker_group), port, machines)
                for rank, (_, port) in enumerate(addresses)
            ]
        )


def remember_network(num_machines: int, local_listen_port: int, machines: str) -> None:
    """In a worker: keep the addresses for the function that comes."""
    network = {"num_machines": num_machines, "local_listen_port": local_listen_port, "machines": machines}
    os.environ[NETWORK_VARIABLE] = json.dumps(network)


def get_network_params() -> dict[str, Any]:
    """Return the parameters that make `lightgbm.train` a distributed one; {} outside of a LightGBMTrainer's function."""
    text = os.environ.get(NETWORK_VARIABLE)
    if text is None:
        logger.warning(
            "`get_network_params` was called outside of the training function of a LightGBMTrainer: there are no other "
            "workers here, and it returns {}."
        )
        return {}
    return json.loads(text)
