"""Types of collectives: names of backends, reductions, and the options each operation takes."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from datetime import timedelta
from enum import Enum

unset_timeout_ms = timedelta(milliseconds=-1)
"""The group's own timeout holds."""


def torch_available() -> bool:
    """Whether torch is installed here."""
    return importlib.util.find_spec("torch") is not None


def cupy_available() -> bool:
    """Whether cupy is installed here."""
    return importlib.util.find_spec("cupy") is not None


class Backend:
    """``Backend("gloo")`` is the name of a backend, "GLOO"; ValueError for one that nobody registered."""

    NCCL = "NCCL"
    GLOO = "GLOO"
    UNRECOGNIZED = "unrecognized"

    def __new__(cls, name: str) -> str:  # type: ignore[misc]
        upper = name.upper()
        if upper == "TORCH_GLOO":
            return cls.GLOO
        backend = getattr(cls, upper, cls.UNRECOGNIZED)
        if backend == cls.UNRECOGNIZED:
            raise ValueError(f"Unrecognized backend: '{name}'. Only NCCL and GLOO are supported")
        return backend


class ReduceOp(Enum):
    """How values of several ranks become one."""

    SUM = 0
    PRODUCT = 1
    MIN = 2
    MAX = 3


@dataclass
class AllReduceOptions:
    reduceOp: ReduceOp = ReduceOp.SUM
    timeout_ms: timedelta = unset_timeout_ms


@dataclass
class BarrierOptions:
    timeout_ms: timedelta = unset_timeout_ms


@dataclass
class ReduceOptions:
    reduceOp: ReduceOp = ReduceOp.SUM
    root_rank: int = 0
    root_tensor: int = 0
    timeout_ms: timedelta = unset_timeout_ms


@dataclass
class AllGatherOptions:
    timeout_ms: timedelta = unset_timeout_ms


@dataclass
class BroadcastOptions:
    root_rank: int = 0
    root_tensor: int = 0
    timeout_ms: timedelta = unset_timeout_ms


@dataclass
class ReduceScatterOptions:
    reduceOp: ReduceOp = ReduceOp.SUM
    timeout_ms: timedelta = unset_timeout_ms


@dataclass
class SendOptions:
    dst_rank: int = 0
    dst_gpu_index: int = 0
    n_elements: int = 0
    timeout_ms: timedelta = unset_timeout_ms


@dataclass
class RecvOptions:
    src_rank: int = 0
    src_gpu_index: int = 0
    n_elements: int = 0
    timeout_ms: timedelta = unset_timeout_ms
