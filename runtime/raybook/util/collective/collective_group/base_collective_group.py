"""BaseGroup: what a backend's group must do. One group, one membership of this process."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

from raybook.util.collective.types import (
    AllGatherOptions,
    AllReduceOptions,
    BarrierOptions,
    BroadcastOptions,
    RecvOptions,
    ReduceOptions,
    ReduceScatterOptions,
    SendOptions,
)


class BaseGroup(ABC):
    """Tensors come in lists of one, lists of tensors in lists of one list, as Ray's backends take them. Every operation
    changes tensors in place and blocks until it is done here."""

    def __init__(self, world_size: int, rank: int, group_name: str) -> None:
        self._world_size = world_size
        self._rank = rank
        self._group_name = group_name

    @property
    def rank(self) -> int:
        """Of this process: 0 to world_size - 1."""
        return self._rank

    @property
    def world_size(self) -> int:
        """How many processes are in it."""
        return self._world_size

    @property
    def group_name(self) -> str:
        """Its name."""
        return self._group_name

    def destroy_group(self) -> None:
        """Leave; connections are closed. Nothing to do for a backend without any."""
        return None

    @classmethod
    def backend(cls) -> str:
        """The backend's name."""
        raise NotImplementedError

    @classmethod
    @abstractmethod
    def check_backend_availability(cls) -> bool:
        """Whether it can work in this process."""

    @abstractmethod
    def allreduce(self, tensor: list[Any], allreduce_options: AllReduceOptions) -> None: ...

    @abstractmethod
    def barrier(self, barrier_options: BarrierOptions) -> None: ...

    @abstractmethod
    def reduce(self, tensor: list[Any], reduce_options: ReduceOptions) -> None: ...

    @abstractmethod
    def allgather(
        self, tensor_list: list[list[Any]], tensor: list[Any], allgather_options: AllGatherOptions
    ) -> None: ...

    @abstractmethod
    def broadcast(self, tensor: list[Any], broadcast_options: BroadcastOptions) -> None: ...

    @abstractmethod
    def reducescatter(
        self, tensor: list[Any], tensor_list: list[list[Any]], reducescatter_options: ReduceScatterOptions
    ) -> None: ...

    @abstractmethod
    def send(self, tensor: list[Any], send_options: SendOptions) -> None: ...

    @abstractmethod
    def recv(self, tensor: list[Any], recv_options: RecvOptions) -> None: ...
