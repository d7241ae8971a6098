"""Groups on torch's process groups: Gloo for tensors in memory, NCCL for those on GPUs.

Each group has a process group of its own, so that groups of different members and sizes live side by side in a process,
beside whatever ``torch.distributed`` does itself. numpy arrays are used in place, as tensors over the same memory.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import numpy as np

from raybook.util.collective.collective_group.base_collective_group import BaseGroup
from raybook.util.collective.rendezvous import meet
from raybook.util.collective.types import (
    AllGatherOptions,
    AllReduceOptions,
    Backend,
    BarrierOptions,
    BroadcastOptions,
    RecvOptions,
    ReduceOptions,
    ReduceScatterOptions,
    SendOptions,
    torch_available,
)

TIMEOUT_MS = 30_000
"""Ray's ``gloo_timeout``."""


class TorchGroup(BaseGroup):
    """What both backends have in common. A member that dies fails the others' operations; the group is then of no use."""

    def __init__(self, world_size: int, rank: int, group_name: str, timeout_ms: int | None = None) -> None:
        super().__init__(world_size, rank, group_name)
        self._timeout_ms = TIMEOUT_MS if timeout_ms is None else timeout_ms
        self._failure = ""
        store, host = meet(group_name, rank, world_size, self._timeout_ms)
        self._store = store
        self._group = self._make(store, host)

    def _make(self, store: Any, host: str) -> Any:
        raise NotImplementedError

    def _tensor(self, value: Any, *, is_written: bool) -> Any:
        """``value`` as a tensor over the same memory. TypeError, ValueError."""
        raise NotImplementedError

    @contextmanager
    def _operation(self, name: str) -> Iterator[None]:
        if self._failure:
            raise RuntimeError(
                f"{name}: the collective group '{self.group_name}' failed before ({self._failure}). Destroy it, and make "
                "it anew with members that live."
            )
        try:
            yield
        except RuntimeError as error:
            self._failure = f"{name}: {str(error).splitlines()[0]}"
            raise RuntimeError(
                f"{name} failed at rank {self.rank} of {self.world_size} of the collective group '{self.group_name}': a "
                f"member died, or did not take part within {self._timeout_ms} ms. Destroy the group, and make it anew with "
                f"members that live. ({error})"
            ) from None

    def _run(self, name: str, start: Callable[[], Any]) -> None:
        with self._operation(name):
            start().wait()

    def destroy_group(self) -> None:
        self._group = self._store = None
        self._failure = "it was destroyed"

    def allreduce(self, tensor: list[Any], allreduce_options: AllReduceOptions) -> None:
        import torch.distributed as dist

        options = dist.AllreduceOptions()
        options.reduceOp = _reduce_op(allreduce_options.reduceOp)
        with self._written(tensor[0]) as target:
            self._run("allreduce", lambda: self._group.allreduce([target], options))

    def barrier(self, barrier_options: BarrierOptions) -> None:
        import torch.distributed as dist

        self._run("barrier", lambda: self._group.barrier(dist.BarrierOptions()))

    def reduce(self, tensor: list[Any], reduce_options: ReduceOptions) -> None:
        with self._written(tensor[0], only_at=reduce_options.root_rank) as target:
            self._reduce_to(target, reduce_options.root_rank, reduce_options.reduceOp)

    def _reduce_to(self, target: Any, root: int, op: Any) -> None:
        import torch.distributed as dist

        options = dist.ReduceOptions()
        options.reduceOp = _reduce_op(op)
        options.rootRank = root
        self._run("reduce", lambda: self._group.reduce([target], options))

    def allgather(self, tensor_list: list[list[Any]], tensor: list[Any], allgather_options: AllGatherOptions) -> None:
        source = self._tensor(tensor[0], is_written=False).contiguous()
        targets = [self._tensor(value, is_written=True) for value in tensor_list[0]]
        parts = [source.new_empty(source.shape) for _ in targets]
        self._run("allgather", lambda: self._group.allgather([parts], [source]))
        for target, part in zip(targets, parts, strict=True):
            target.copy_(part)

    def broadcast(self, tensor: list[Any], broadcast_options: BroadcastOptions) -> None:
        import torch.distributed as dist

        options = dist.BroadcastOptions()
        options.rootRank = broadcast_options.root_rank
        is_root = self.rank == broadcast_options.root_rank
        with self._written(tensor[0], never=is_root) as target:
            self._run("broadcast", lambda: self._group.broadcast([target], options))

    def reducescatter(
        self, tensor: list[Any], tensor_list: list[list[Any]], reducescatter_options: ReduceScatterOptions
    ) -> None:
        target = self._tensor(tensor[0], is_written=True)
        parts = [self._tensor(value, is_written=False) for value in tensor_list[0]]
        if target.shape != parts[self.rank].shape:
            raise ValueError(
                f"Output tensor has wrong shape {tuple(target.shape)}, expected {tuple(parts[self.rank].shape)}"
            )
        # A reduction for each owner: Gloo has had none that scatters until lately, and the bytes sent are the same.
        for owner, part in enumerate(parts):
            copy = part.detach().clone().contiguous()
            self._reduce_to(copy, owner, reducescatter_options.reduceOp)
            if owner == self.rank:
                target.copy_(copy)

    def send(self, tensor: list[Any], send_options: SendOptions) -> None:
        source = self._tensor(tensor[0], is_written=False).contiguous()
        self._run("send", lambda: self._group.send([source], send_options.dst_rank, 0))

    def recv(self, tensor: list[Any], recv_options: RecvOptions) -> None:
        with self._written(tensor[0]) as target:
            self._run("recv", lambda: self._group.recv([target], recv_options.src_rank, 0))

    @contextmanager
    def _written(self, value: Any, *, only_at: int | None = None, never: bool = False) -> Iterator[Any]:
        """A tensor that an operation may write, and that ends up in ``value``, unless this rank only gives."""
        is_written = not never and only_at in (None, self.rank)
        tensor = self._tensor(value, is_written=is_written)
        if is_written and tensor.is_contiguous():
            yield tensor
            return
        copy = tensor.detach().clone().contiguous()
        yield copy
        if is_written:
            tensor.copy_(copy)


class TorchGlooGroup(TorchGroup):
    """Tensors in memory, over TCP."""

    @classmethod
    def backend(cls) -> str:
        return Backend.GLOO

    @classmethod
    def check_backend_availability(cls) -> bool:
        if not torch_available():
            return False
        import torch.distributed as dist

        return dist.is_available() and dist.is_gloo_available()

    def _make(self, store: Any, host: str) -> Any:
        from torch.distributed import PrefixStore, ProcessGroupGloo

        options = ProcessGroupGloo._Options()
        options._timeout = timedelta(milliseconds=self._timeout_ms)
        # By address: a host's own name need not resolve, or resolves to what others cannot reach.
        options._devices = [ProcessGroupGloo.create_device(hostname=host)]
        with self._operation("init_collective_group"):
            return ProcessGroupGloo(PrefixStore("gloo", store), self.rank, self.world_size, options)

    def _tensor(self, value: Any, *, is_written: bool) -> Any:
        import torch

        if isinstance(value, torch.Tensor):
            if value.device.type != "cpu":
                raise ValueError(
                    f"The GLOO backend takes tensors in memory, not on {value.device}. Use NCCL, or .cpu()."
                )
            return value.detach()
        if not value.flags.writeable:
            if is_written:
                raise ValueError(
                    "The array is read-only, and the result has no place to go. Arrays from the object store are shared "
                    "with other processes: give a copy, array.copy()."
                )
            value = value.copy()
        return torch.from_numpy(value)


class TorchNcclGroup(TorchGroup):
    """Tensors on this process's GPU."""

    @classmethod
    def backend(cls) -> str:
        return Backend.NCCL

    @classmethod
    def check_backend_availability(cls) -> bool:
        if not torch_available():
            return False
        import torch
        import torch.distributed as dist

        return torch.cuda.is_available() and dist.is_available() and dist.is_nccl_available()

    def _make(self, store: Any, host: str) -> Any:
        from torch.distributed import PrefixStore, ProcessGroupNCCL

        options = ProcessGroupNCCL.Options()
        options._timeout = timedelta(milliseconds=self._timeout_ms)
        with self._operation("init_collective_group"):
            return ProcessGroupNCCL(PrefixStore("nccl", store), self.rank, self.world_size, options)

    def _run(self, name: str, start: Callable[[], Any]) -> None:
        import torch

        super()._run(name, start)
        # ``wait`` only orders streams; callers may look at the tensor from anywhere.
        torch.cuda.synchronize()

    def destroy_group(self) -> None:
        if self._group is not None:
            self._group.abort()
        super().destroy_group()

    def _tensor(self, value: Any, *, is_written: bool) -> Any:
        import torch

        if isinstance(value, np.ndarray) or not isinstance(value, torch.Tensor) or value.device.type != "cuda":
            raise ValueError("The NCCL backend takes tensors on a GPU. Use GLOO for tensors and arrays in memory.")
        return value.detach()


def _reduce_op(op: Any) -> Any:
    import torch.distributed as dist

    return getattr(dist.ReduceOp, op.name)
