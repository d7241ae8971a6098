"""JAX configuration: the coordinator at rank 0, which every worker of `jax.distributed` joins."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

from raybook import api
from raybook.exceptions import GetTimeoutError
from raybook.train.addresses import free_address, joined
from raybook.train.backend import Backend, BackendConfig
from raybook.train.session import get_context
from raybook.train.worker_group import WorkerGroup

SHUTDOWN_TIMEOUT_S = 30.0


@dataclass
class JaxConfig(BackendConfig):
    """Which platform the workers compute on. use_tpu: TPU, use_gpu: CUDA, neither: the CPU, connected by gloo.

    JAX_PLATFORMS, where it is set, says it instead.
    """

    use_tpu: bool = False
    use_gpu: bool = False

    @property
    def backend_cls(self) -> type[Backend]:
        """The class of the backend."""
        return JaxBackend

    @property
    def framework(self) -> str:
        """The framework's name."""
        return "jax"

    def to_dict(self) -> dict[str, Any]:
        """What of it can be shown."""
        return {"use_tpu": self.use_tpu, "use_gpu": self.use_gpu}

    @property
    def platform(self) -> str:
        """The platform's name for JAX."""
        if self.use_tpu:
            return "tpu"
        return "cuda" if self.use_gpu else "cpu"


class JaxBackend(Backend):
    """Joins the workers, and parts them."""

    def on_start(self, worker_group: WorkerGroup, backend_config: BackendConfig) -> None:
        """Connect the workers."""
        assert isinstance(backend_config, JaxConfig)
        coordinator = joined(*worker_group.execute_single(0, free_address))
        worker_group.execute(join_jax, coordinator, backend_config.platform)

    def on_shutdown(self, worker_group: WorkerGroup, backend_config: BackendConfig) -> None:
        """Part them."""
        try:
            api.get(worker_group.execute_async(leave_jax), timeout=SHUTDOWN_TIMEOUT_S)
        except GetTimeoutError:
            pass  # Their processes end next.


def join_jax(coordinator: str, platform: str) -> None:
    """In a worker: become a member."""
    os.environ.setdefault("JAX_PLATFORMS", platform)
    import jax

    if "cpu" in os.environ["JAX_PLATFORMS"]:
        jax.config.update("jax_cpu_collectives_implementation", "gloo")
    context = get_context()
    local = list(range(len(api.get_gpu_ids()))) or None
    jax.distributed.initialize(coordinator, context.get_world_size(), context.get_world_rank(), local)


def leave_jax() -> None:
    """In a worker: leave."""
    import jax

    jax.distributed.shutdown()
