"""Torch configuration: how workers become one torch process group, without a line of the user's.

The first worker names an address, all learn it and their ranks by the variables that torch's own launchers set, and join.
Runs in the controller, which needs no torch: what does is sent to the workers.
"""

from __future__ import annotations

import logging
import os
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from raybook import api
from raybook.exceptions import GetTimeoutError
from raybook.train.addresses import free_address
from raybook.train.backend import Backend, BackendConfig
from raybook.train.session import get_context
from raybook.train.worker_group import WorkerGroup
from raybook.util.node_address import LOOPBACK

logger = logging.getLogger("raybook.train")

# Leaving a group takes moments; a hung peer may hold it for ever, and then the processes are ended anyway.
SHUTDOWN_TIMEOUT_S = 30.0


class TorchFunctionContext:
    """What the training function runs in: on its GPU, where there is one."""

    def __enter__(self) -> None:
        import torch

        if torch.cuda.is_available():
            from raybook.train.torch.train_loop_utils import get_device

            device = get_device()
            if device.type == "cuda":
                torch.cuda.set_device(device)

    def __exit__(self, *exception: object) -> None:
        return None


@dataclass
class TorchConfig(BackendConfig):
    """How torch's process group is made.

    backend: "nccl", "gloo", or what else torch knows; None is nccl with GPUs and gloo without. init_method: "env" or
    "tcp". timeout_s: of each collective operation.
    """

    backend: str | None = None
    init_method: str = "env"
    timeout_s: int = 1800

    @property
    def backend_cls(self) -> type[Backend]:
        """The class of the backend."""
        return TorchBackend

    @property
    def train_func_context(self) -> Any:
        """Puts the function onto its GPU."""
        return TorchFunctionContext

    @property
    def framework(self) -> str:
        """The framework's name."""
        return "torch"

    def to_dict(self) -> dict[str, Any]:
        """What of it can be shown."""
        return {"backend": self.backend, "init_method": self.init_method, "timeout_s": self.timeout_s}


class TorchBackend(Backend):
    """Makes the process group, and leaves it."""

    share_cuda_visible_devices = True

    def on_start(self, worker_group: WorkerGroup, backend_config: BackendConfig) -> None:
        """Connect the workers. Raises ValueError for an unknown init_method, and what torch raises."""
        assert isinstance(backend_config, TorchConfig)
        backend = backend_config.backend
        if backend is None:
            backend = "nccl" if worker_group.get_resources_per_worker().get("GPU", 0) > 0 else "gloo"
        if backend_config.init_method not in ("env", "tcp"):
            raise ValueError(
                f"The provided init_method ({backend_config.init_method}) is not supported. Must be either 'env' or "
                "'tcp'."
            )
        address, port = worker_group.execute_single(0, free_address)
        url = "env://" if backend_config.init_method == "env" else f"tcp://{address}:{port}"
        worker_group.execute(join_process_group, backend, address, port, url, backend_config.timeout_s)

    def on_shutdown(self, worker_group: WorkerGroup, backend_config: BackendConfig) -> None:
        """Leave the process group."""
        limit_s = float(os.environ.get("TORCH_PROCESS_GROUP_SHUTDOWN_TIMEOUT_S", SHUTDOWN_TIMEOUT_S))
        try:
            api.get(worker_group.execute_async(leave_process_group), timeout=limit_s)
        except GetTimeoutError:
            logger.warning("Torch process group shutdown timed out after %s seconds", limit_s)


def set_rank_variables(address: str, port: int) -> None:
    """Set what torch's launchers set, for this worker."""
    context = get_context()
    os.environ.update(
        MASTER_ADDR=address,
        MASTER_PORT=str(port),
        RANK=str(context.get_world_rank()),
        WORLD_SIZE=str(context.get_world_size()),
        LOCAL_RANK=str(context.get_local_rank()),
        LOCAL_WORLD_SIZE=str(context.get_local_world_size()),
        NODE_RANK=str(context.get_node_rank()),
    )
    if address == LOOPBACK:
        # Gloo looks for the interface of the host's name, which in a container may be none.
        os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")


def join_process_group(backend: str, address: str, port: int, url: str, timeout_s: float) -> None:
    """Become a member of the group."""
    set_rank_variables(address, port)
    import torch.distributed as dist

    from raybook.train.torch.train_loop_utils import get_device

    if not dist.is_available():
        raise RuntimeError("Distributed torch is not available.")
    os.environ["ACCELERATE_TORCH_DEVICE"] = str(get_device())
    if "nccl" in backend and "TORCH_NCCL_BLOCKING_WAIT" not in os.environ:
        os.environ.setdefault("TORCH_NCCL_ASYNC_ERROR_HANDLING", "1")  # A hung collective fails instead of hanging on.
    context = get_context()
    dist.init_process_group(
        backend=backend,
        init_method=url,
        rank=context.get_world_rank(),
        world_size=context.get_world_size(),
        timeout=timedelta(seconds=timeout_s),
    )


def leave_process_group() -> None:
    """Leave the group, and give the GPU's memory back."""
    import torch

    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
