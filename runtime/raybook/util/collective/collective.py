"""Collectives between actors or tasks: who is in which group, and the operations, as functions of a group's name.

A group is joined by each member (``init_collective_group``), or declared by the driver (``create_collective_group``), and
then joined by each actor at its first operation. Tensors are numpy arrays or torch tensors, and are changed in place.
Source: Ray's ``ray.util.collective``.
"""

from __future__ import annotations

import inspect
import json
import threading
from collections.abc import Sequence
from typing import Any, NoReturn

import numpy as np

from raybook.api import ActorHandle, get_runtime_context, list_actors
from raybook.api.context import WORKER, current_runtime
from raybook.api.kv import kv_delete, kv_get, kv_put
from raybook.util.collective import types
from raybook.util.collective.backend_registry import backend_class, is_backend_available
from raybook.util.collective.collective_group.base_collective_group import BaseGroup
from raybook.util.collective.rendezvous import NAMESPACE

DEFAULT = "default"


class _Groups:
    """Memberships of this process, by name; one lock for changes."""

    def __init__(self) -> None:
        self.by_name: dict[str, BaseGroup] = {}
        self.lock = threading.Lock()


def nccl_available() -> bool:
    """Whether NCCL can work in this process."""
    return is_backend_available("NCCL")


def gloo_available() -> bool:
    """Whether Gloo can work in this process."""
    return is_backend_available("GLOO")


def is_group_initialized(group_name: str) -> bool:
    """Whether this process is in the group."""
    return group_name in _groups().by_name


def init_collective_group(
    world_size: int,
    rank: int,
    backend: str = types.Backend.NCCL,
    group_name: str = DEFAULT,
    gloo_timeout: int = 30_000,
) -> None:
    """Join a group, inside an actor or task; blocks until all its members have.

    gloo_timeout: milliseconds, for members to come and for each operation. RuntimeError outside of actors and tasks, for
    a group this process is in already, and for a backend that cannot work here; ValueError for a rank that is not below
    world_size and for members that do not agree; TimeoutError names the ranks that did not come.
    """
    _check_inside()
    if not isinstance(group_name, str) or not group_name:
        raise ValueError(f"group_name '{group_name}' needs to be a string.")
    if world_size <= 0 or not 0 <= rank < world_size:
        raise ValueError(f"rank {rank} of {world_size}: ranks go from 0 to world_size - 1.")
    with _groups().lock:
        if is_group_initialized(group_name):
            raise RuntimeError("Trying to initialize a group a second time.")
        _groups().by_name[group_name] = _make(backend, world_size, rank, group_name, gloo_timeout)


def create_collective_group(
    actors: Sequence[ActorHandle],
    world_size: int,
    ranks: Sequence[int],
    backend: str = types.Backend.NCCL,
    group_name: str = DEFAULT,
    gloo_timeout: int = 30_000,
) -> None:
    """Declare, from outside, that these actors are a group; each joins at its first operation. RuntimeError when there is
    such a group, and for ranks that are no permutation of 0 to len(actors) - 1."""
    declared = kv_get(NAMESPACE, _declaration_key(group_name))
    if declared is not None and _has_living_members(json.loads(declared)):
        raise RuntimeError("Trying to initialize a group twice.")
    if len(ranks) != len(actors):
        raise RuntimeError(
            f"Each actor should correspond to one rank. Got '{len(ranks)}' ranks but '{len(actors)}' actors"
        )
    if set(ranks) != set(range(len(ranks))):
        raise RuntimeError(f"Ranks must be a permutation from 0 to '{len(ranks) - 1}'. Got {list(ranks)}.")
    if world_size <= 0:
        raise RuntimeError(f"World size must be greater than zero. Got '{world_size}'.")
    if world_size != len(actors):
        raise RuntimeError(f"World size is '{world_size}', but there are '{len(actors)}' actors.")
    # Whether it can work is known where the actors are, not here.
    types.Backend(backend)
    declaration = {
        "ranks": {actor._actor_id.hex(): rank for actor, rank in zip(actors, ranks, strict=True)},
        "world_size": world_size,
        "backend": backend,
        "timeout_ms": gloo_timeout,
    }
    kv_put(NAMESPACE, _declaration_key(group_name), json.dumps(declaration).encode())


def destroy_collective_group(group_name: str = DEFAULT) -> None:
    """Leave a group, and forget that it was declared. Without effect when this process is not in it."""
    _check_inside()
    with _groups().lock:
        group = _groups().by_name.pop(group_name, None)
        if group is not None:
            group.destroy_group()
            kv_delete(NAMESPACE, _declaration_key(group_name))


def get_rank(group_name: str = DEFAULT) -> int:
    """This process's rank; -1 when it is not in the group."""
    _check_inside()
    group = _groups().by_name.get(group_name)
    return -1 if group is None else group.rank


def get_collective_group_size(group_name: str = DEFAULT) -> int:
    """How many processes are in the group; -1 when this one is not."""
    _check_inside()
    group = _groups().by_name.get(group_name)
    return -1 if group is None else group.world_size


def get_group_handle(group_name: str = DEFAULT) -> BaseGroup:
    """This process's membership; a declared group is joined now. RuntimeError when it is in no such group."""
    _check_inside()
    with _groups().lock:
        group = _groups().by_name.get(group_name)
        if group is None:
            found = kv_get(NAMESPACE, _declaration_key(group_name))
            declared = json.loads(found) if found is not None else {"ranks": {}}
            rank = declared["ranks"].get(get_runtime_context().get_actor_id())
            if rank is None:
                raise RuntimeError(f"The collective group '{group_name}' is not initialized in the process.")
            group = _groups().by_name[group_name] = _make(
                declared["backend"], declared["world_size"], rank, group_name, declared["timeout_ms"]
            )
        return group


def allreduce(tensor: Any, group_name: str = DEFAULT, op: types.ReduceOp = types.ReduceOp.SUM) -> None:
    """All ranks' tensors become their reduction."""
    _check_tensor(tensor)
    get_group_handle(group_name).allreduce([tensor], types.AllReduceOptions(op))


def barrier(group_name: str = DEFAULT) -> None:
    """Wait until all ranks are here."""
    get_group_handle(group_name).barrier(types.BarrierOptions())


def reduce(tensor: Any, dst_rank: int = 0, group_name: str = DEFAULT, op: types.ReduceOp = types.ReduceOp.SUM) -> None:
    """The tensor of ``dst_rank`` becomes the reduction; those of others stay."""
    _check_tensor(tensor)
    group = get_group_handle(group_name)
    _check_rank(group, dst_rank)
    group.reduce([tensor], types.ReduceOptions(op, dst_rank))


def broadcast(tensor: Any, src_rank: int = 0, group_name: str = DEFAULT) -> None:
    """All tensors become that of ``src_rank``."""
    _check_tensor(tensor)
    group = get_group_handle(group_name)
    _check_rank(group, src_rank)
    group.broadcast([tensor], types.BroadcastOptions(src_rank))


def allgather(tensor_list: list[Any], tensor: Any, group_name: str = DEFAULT) -> None:
    """``tensor_list``, as long as the group, becomes all ranks' tensors, by rank."""
    _check_tensor(tensor)
    _check_tensors(tensor_list)
    group = get_group_handle(group_name)
    if len(tensor_list) != group.world_size:
        raise RuntimeError("The length of the tensor list operands to allgather must be equal to world_size.")
    group.allgather([tensor_list], [tensor], types.AllGatherOptions())


def reducescatter(
    tensor: Any, tensor_list: list[Any], group_name: str = DEFAULT, op: types.ReduceOp = types.ReduceOp.SUM
) -> None:
    """``tensor`` becomes the reduction of all ranks' ``tensor_list[rank]``; the lists stay."""
    _check_tensor(tensor)
    _check_tensors(tensor_list)
    group = get_group_handle(group_name)
    if len(tensor_list) != group.world_size:
        raise RuntimeError("The length of the tensor list operands to reducescatter must be equal to world_size.")
    group.reducescatter([tensor], [tensor_list], types.ReduceScatterOptions(op))


def send(tensor: Any, dst_rank: int, group_name: str = DEFAULT) -> None:
    """Give a tensor to one rank, which receives it."""
    _check_tensor(tensor)
    group = get_group_handle(group_name)
    _check_rank(group, dst_rank)
    if dst_rank == group.rank:
        raise RuntimeError(f"The destination rank '{dst_rank}' is self.")
    group.send([tensor], types.SendOptions(dst_rank))


def recv(tensor: Any, src_rank: int, group_name: str = DEFAULT) -> None:
    """The tensor becomes what one rank sends, which has the same shape and type."""
    _check_tensor(tensor)
    group = get_group_handle(group_name)
    _check_rank(group, src_rank)
    if src_rank == group.rank:
        raise RuntimeError(f"The source rank '{src_rank}' is self.")
    group.recv([tensor], types.RecvOptions(src_rank))


def _several_gpus(name: str) -> NoReturn:
    raise RuntimeError(
        f"{name}: several GPUs in one process are not supported, where Ray needs NCCL and Cupy. Give each GPU an actor "
        f"with num_gpus=1, and use {name.removesuffix('_multigpu')}."
    )


def allreduce_multigpu(tensor_list: list, group_name: str = DEFAULT, op: types.ReduceOp = types.ReduceOp.SUM) -> None:
    """RuntimeError: one process, one GPU."""
    _several_gpus("allreduce_multigpu")


def reduce_multigpu(
    tensor_list: list,
    dst_rank: int = 0,
    dst_tensor: int = 0,
    group_name: str = DEFAULT,
    op: types.ReduceOp = types.ReduceOp.SUM,
) -> None:
    """RuntimeError: one process, one GPU."""
    _several_gpus("reduce_multigpu")


def broadcast_multigpu(tensor_list: list, src_rank: int = 0, src_tensor: int = 0, group_name: str = DEFAULT) -> None:
    """RuntimeError: one process, one GPU."""
    _several_gpus("broadcast_multigpu")


def allgather_multigpu(output_tensor_lists: list, input_tensor_list: list, group_name: str = DEFAULT) -> None:
    """RuntimeError: one process, one GPU."""
    _several_gpus("allgather_multigpu")


def reducescatter_multigpu(
    output_tensor_list: list,
    input_tensor_lists: list,
    group_name: str = DEFAULT,
    op: types.ReduceOp = types.ReduceOp.SUM,
) -> None:
    """RuntimeError: one process, one GPU."""
    _several_gpus("reducescatter_multigpu")


def send_multigpu(
    tensor: Any, dst_rank: int, dst_gpu_index: int, group_name: str = DEFAULT, n_elements: int = 0
) -> None:
    """RuntimeError: one process, one GPU."""
    _several_gpus("send_multigpu")


def recv_multigpu(
    tensor: Any, src_rank: int, src_gpu_index: int, group_name: str = DEFAULT, n_elements: int = 0
) -> None:
    """RuntimeError: one process, one GPU."""
    _several_gpus("recv_multigpu")


def _groups() -> _Groups:
    return current_runtime.session.setdefault("collective_groups", _Groups())


def _make(backend: str, world_size: int, rank: int, group_name: str, timeout_ms: int) -> BaseGroup:
    group_class: Any = backend_class(backend)
    # Users' classes take what Ray gives them: three arguments, or four if they ask.
    takes_timeout = len(inspect.signature(group_class).parameters) > 3
    extra = (timeout_ms,) if takes_timeout else ()
    return group_class(world_size, rank, group_name, *extra)


def _has_living_members(declaration: dict[str, Any]) -> bool:
    members = declaration["ranks"]
    return any(row["actor_id"] in members and row["state"] != "DEAD" for row in list_actors())


def _declaration_key(group_name: str) -> bytes:
    return f"declared/{group_name}".encode()


def _check_inside() -> None:
    if current_runtime.mode != WORKER:
        raise RuntimeError("The collective APIs shall be only used inside a Ray actor or task.")


def _check_rank(group: BaseGroup, rank: int) -> None:
    if rank < 0:
        raise ValueError(f"rank '{rank}' is negative.")
    if rank >= group.world_size:
        raise ValueError(f"rank '{rank}' must be less than world size '{group.world_size}'")


def _check_tensor(tensor: Any) -> None:
    # Without importing torch, which a process that has such a tensor has done.
    if isinstance(tensor, np.ndarray) or type(tensor).__module__.partition(".")[0] == "torch":
        return
    raise RuntimeError(
        f"Unrecognized tensor type '{type(tensor)}'. Supported types are: np.ndarray, torch.Tensor, cupy.ndarray."
    )


def _check_tensors(tensor_list: Any) -> None:
    if not isinstance(tensor_list, list):
        raise RuntimeError(f"The input must be a list of tensors. Got '{type(tensor_list)}'.")
    if not tensor_list:
        raise RuntimeError("Got an empty list of tensors.")
    for tensor in tensor_list:
        _check_tensor(tensor)
