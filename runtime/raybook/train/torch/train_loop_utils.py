"""Helpers for a training function of torch: its device, its model and its data, for any number of workers."""

from __future__ import annotations

import collections.abc
import logging
import os
import random
from collections.abc import Iterator
from typing import Any, NoReturn

import numpy
import torch
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader, DistributedSampler, IterableDataset, RandomSampler, SequentialSampler

from raybook import api
from raybook.train.session import _worker_session

logger = logging.getLogger("raybook.train")

STRATEGIES = ("ddp", "fsdp", None)


def get_device() -> torch.device:
    """Return the device of this worker: its first GPU, else the CPU. Raises RuntimeError outside of a worker."""
    _worker_session("get_device")
    return get_devices()[0]


def get_devices() -> list[torch.device]:
    """Return all devices of this worker. Raises RuntimeError outside of a worker."""
    session = _worker_session("get_devices")
    if not torch.cuda.is_available():
        return [torch.device("cpu")]
    if not session.is_distributed:
        return [torch.device(f"cuda:{torch.cuda.current_device()}")]
    given = [str(each) for each in api.get_gpu_ids()]
    if not given:
        return [torch.device("cpu")]
    # The variable names more than this worker's own GPUs: those of all workers here, so that NCCL finds its peers.
    visible = [each for each in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if each]
    if not visible:
        return [torch.device(f"cuda:{each}") for each in given]
    missing = [each for each in given if each not in visible]
    if missing:
        raise RuntimeError(
            f"CUDA_VISIBLE_DEVICES set incorrectly. Got {visible}, expected to include {given}. Did you override the "
            "variable in the training function?"
        )
    return [torch.device(f"cuda:{visible.index(each)}") for each in given]


def prepare_model(
    model: torch.nn.Module,
    move_to_device: bool | torch.device = True,
    parallel_strategy: str | None = "ddp",
    parallel_strategy_kwargs: dict[str, Any] | None = None,
) -> torch.nn.Module:
    """Return the model on this worker's device, wrapped for training with the others if there are others.

    move_to_device: False to leave it, or the device. parallel_strategy: "ddp" (DistributedDataParallel), "fsdp"
    (FullyShardedDataParallel, which works on CPUs too), None for no wrapper. parallel_strategy_kwargs: for the wrapper.
    Raises ValueError for another strategy, RuntimeError outside of a worker.
    """
    if parallel_strategy not in STRATEGIES:
        raise ValueError(f"parallel_strategy must be 'ddp', 'fsdp' or None, not {parallel_strategy!r}.")
    context = _worker_session("prepare_model").context
    device = move_to_device if isinstance(move_to_device, torch.device) else get_device()
    if device.type == "cuda":
        torch.cuda.set_device(device)
    if move_to_device:
        model = model.to(device)
    if parallel_strategy is None or context.get_world_size() == 1:
        return model
    keywords = dict(parallel_strategy_kwargs or {})
    if parallel_strategy == "ddp":
        if device.type != "cpu":
            keywords = {"device_ids": [device], "output_device": device, **keywords}
        return DistributedDataParallel(model, **keywords)
    from torch.distributed.fsdp import FullyShardedDataParallel

    if device.type == "cpu":
        # Without it, it takes the index of a GPU that is not there.
        keywords.setdefault("device_id", device)
    return FullyShardedDataParallel(model, **keywords)


def prepare_data_loader(
    data_loader: DataLoader[Any],
    add_dist_sampler: bool = True,
    move_to_device: bool = True,
    auto_transfer: bool = True,
) -> DataLoader[Any]:
    """Return the loader with this worker's share of the data, on this worker's device.

    add_dist_sampler: share the data out, if there are several workers and the loader has no DistributedSampler; call its
    `sampler.set_epoch(epoch)` for another order in each epoch. auto_transfer: with a GPU, copy the next batch while this
    one is used. Raises ValueError for a loader with a batch sampler of its own, which cannot be shared out.
    """
    context = _worker_session("prepare_data_loader").context
    is_shared = isinstance(data_loader.sampler, DistributedSampler) or isinstance(data_loader.dataset, IterableDataset)
    if add_dist_sampler and context.get_world_size() > 1 and not is_shared:
        data_loader = _with_sampler(data_loader, context.get_world_rank())
    if move_to_device:
        return _DeviceLoader(data_loader, get_device(), auto_transfer)
    return data_loader


def _with_sampler(loader: DataLoader[Any], rank: int) -> DataLoader[Any]:
    if loader.batch_size is None and loader.batch_sampler is not None:
        raise ValueError(
            "A DataLoader with a batch_sampler of its own cannot be shared out over workers. Make it draw this worker's "
            "share, and pass add_dist_sampler=False."
        )
    if not isinstance(loader.sampler, (SequentialSampler, RandomSampler)) and rank == 0:
        logger.warning(
            "The %s will be overwritten with a DistributedSampler. Pass add_dist_sampler=False to keep it.",
            type(loader.sampler).__name__,
        )
    shuffle = not isinstance(loader.sampler, SequentialSampler)
    keywords: dict[str, Any] = {}
    if loader.num_workers > 0:
        keywords = {
            "prefetch_factor": loader.prefetch_factor,
            "persistent_workers": loader.persistent_workers,
            "multiprocessing_context": loader.multiprocessing_context,
        }
    return DataLoader(
        loader.dataset,
        batch_size=loader.batch_size,
        shuffle=False,
        sampler=DistributedSampler(loader.dataset, shuffle=shuffle),
        num_workers=loader.num_workers,
        collate_fn=loader.collate_fn,
        pin_memory=loader.pin_memory,
        drop_last=loader.drop_last,
        timeout=loader.timeout,
        worker_init_fn=loader.worker_init_fn,
        generator=loader.generator,
        **keywords,
    )


class _DeviceLoader(DataLoader[Any]):
    """A loader whose batches are on a device. Everything else is the wrapped loader's."""

    def __init__(self, loader: DataLoader[Any], device: torch.device, auto_transfer: bool) -> None:
        self.__dict__.update(loader.__dict__)
        self._loader = loader
        self.device = device
        self._stream = torch.cuda.Stream(device) if device.type == "cuda" and auto_transfer else None

    def __len__(self) -> int:
        return len(self._loader)

    def __iter__(self) -> Iterator[Any]:  # type: ignore[override]
        batches = iter(self._loader)
        if self._stream is None:
            for batch in batches:
                yield self._move(batch)
            return
        nothing = object()
        coming = self._fetch(batches, nothing)
        while coming is not nothing:
            batch = coming
            torch.cuda.current_stream().wait_stream(self._stream)
            for tensor in _tensors_in(batch):
                tensor.record_stream(torch.cuda.current_stream())
            coming = self._fetch(batches, nothing)
            yield batch

    def _fetch(self, batches: Iterator[Any], nothing: object) -> Any:
        batch = next(batches, nothing)
        if batch is nothing:
            return nothing
        with torch.cuda.stream(self._stream):
            return self._move(batch)

    def _move(self, item: Any) -> Any:
        if isinstance(item, torch.Tensor):
            return item.to(self.device, non_blocking=self._stream is not None)
        if isinstance(item, collections.abc.Mapping):
            return {key: self._move(value) for key, value in item.items()}
        if isinstance(item, tuple):
            moved = [self._move(part) for part in item]
            return type(item)(*moved) if hasattr(item, "_fields") else tuple(moved)
        if isinstance(item, list):
            return [self._move(part) for part in item]
        return item


def _tensors_in(item: Any) -> Iterator[torch.Tensor]:
    if isinstance(item, torch.Tensor):
        if item.is_cuda:
            yield item
    elif isinstance(item, collections.abc.Mapping):
        for value in item.values():
            yield from _tensors_in(value)
    elif isinstance(item, (list, tuple)):
        for part in item:
            yield from _tensors_in(part)


def enable_reproducibility(seed: int = 0) -> None:
    """Seed torch, Python and numpy, and have torch use deterministic algorithms. Slower, and no promise across machines."""
    torch.manual_seed(seed)
    random.seed(seed)
    numpy.random.seed(seed)
    torch.use_deterministic_algorithms(True)
    torch.backends.cudnn.benchmark = False
    # Deterministic cuBLAS needs it, says torch's note on reproducibility.
    os.environ["CUBLAS_WORKSPACE_CONFIG"] = ":4096:8"


def accelerate(amp: bool = False) -> None:
    """Deprecated."""
    _given_up("accelerate")


def prepare_optimizer(optimizer: torch.optim.Optimizer) -> torch.optim.Optimizer:
    """Deprecated."""
    _given_up("prepare_optimizer")


def backward(tensor: torch.Tensor) -> None:
    """Deprecated."""
    _given_up("backward")


def _given_up(name: str) -> NoReturn:
    raise DeprecationWarning(
        f"`{name}` of raybook.train.torch is deprecated, with the mixed precision that it was made for. Use torch.amp "
        "directly, or a library such as Lightning or Accelerate."
    )
