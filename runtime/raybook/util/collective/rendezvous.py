"""Rendezvous: how the members of a group find one another.

Rank 0 opens a torch store on its node's address and notes it in the cluster's key-value table; the others read the note
and connect. Each says its rank and world size in the store, and all wait until all are there. A note left behind by a
group that died leads to nobody, or to a store with another nonce, and is read again until the time is up.
"""

from __future__ import annotations

import json
import secrets
import socket
import time
from datetime import timedelta
from typing import Any

from raybook.api.kv import kv_delete, kv_get, kv_put
from raybook.util.node_address import get_node_ip_address

NAMESPACE = "_collective"
LOOK_S = 0.02
"""How often members look whether the others have come: once, while a group is made."""
TELL_S = 1.0
"""So long rank 0 keeps the store of a group that cannot be, for the others to read why."""
SPOILT = "spoilt"
ANOTHER = -1
"""The rank of one that has claimed none."""
CONNECT_S = 2.0
"""A store that does not answer by then is one of a group that died."""


def meet(group_name: str, rank: int, world_size: int, timeout_ms: int) -> tuple[Any, str]:
    """(store shared by the members, this node's address), when all have come.

    ValueError when they do not agree on the world size, or two claim one rank; TimeoutError naming the ranks that did
    not come within ``timeout_ms``.
    """
    deadline = time.monotonic() + timeout_ms / 1000
    host = get_node_ip_address()
    open_store = _host if rank == 0 else _join
    store = open_store(group_name, host, world_size, deadline)
    if store.add(f"claims/{rank}", 1) > 1:
        raise _spoil(store, rank, f"Two processes claim rank {rank} of the collective group '{group_name}'.")
    store.set(f"size/{rank}", str(world_size))
    try:
        missing = _wait(store, world_size, deadline)
    except RuntimeError as error:
        raise TimeoutError(f"Rank 0 of the collective group '{group_name}' left before all had come: {error}") from None
    if store.check([SPOILT]):
        raise _spoil(store, rank, store.get(SPOILT).decode())
    if missing:
        raise TimeoutError(
            f"Rank {rank} of the collective group '{group_name}' waited {timeout_ms} ms for ranks {missing} of "
            f"{world_size}, which did not come. Call init_collective_group in every member, with the same name."
        )
    if rank == 0:
        kv_delete(NAMESPACE, _note_key(group_name))
    return store, host


def _wait(store: Any, world_size: int, deadline: float) -> list[int]:
    """The ranks that have not come when the time is up, or when it is known that there will be no group."""
    while True:
        missing = [rank for rank in range(world_size) if not store.check([f"size/{rank}"])]
        if not missing or time.monotonic() > deadline or store.check([SPOILT]):
            return missing
        time.sleep(LOOK_S)


def _host(group_name: str, host: str, world_size: int, deadline: float) -> Any:
    listener = socket.create_server((host, 0))
    port = listener.getsockname()[1]
    store = _store(host, port, deadline, listener.detach())
    nonce = secrets.token_hex(8)
    store.set("nonce", nonce)
    note = {"host": host, "port": port, "nonce": nonce, "world_size": world_size}
    kv_put(NAMESPACE, _note_key(group_name), json.dumps(note).encode())
    return store


def _join(group_name: str, host: str, world_size: int, deadline: float) -> Any:
    while True:
        found = kv_get(NAMESPACE, _note_key(group_name))
        if found is not None:
            note = json.loads(found)
            store = _connect(note, deadline)
            if store is not None:
                if note["world_size"] == world_size:
                    return store
                raise _spoil(
                    store,
                    ANOTHER,
                    f"The members of the collective group '{group_name}' do not agree on its world size: rank 0 says "
                    f"{note['world_size']}, another one says {world_size}.",
                )
        if time.monotonic() > deadline:
            raise TimeoutError(
                f"Rank 0 of the collective group '{group_name}' did not come. Call init_collective_group in every "
                "member, with the same name."
            )
        time.sleep(LOOK_S)


def _connect(note: dict[str, Any], deadline: float) -> Any:
    """The store of a note; None when it is gone or another group's."""
    try:
        # torch would try again for the whole of its timeout, and complain in the log.
        socket.create_connection((note["host"], note["port"]), timeout=CONNECT_S).close()
        store = _store(note["host"], note["port"], deadline)
        return store if store.get("nonce").decode() == note["nonce"] else None
    except (OSError, RuntimeError):
        return None


def _store(host: str, port: int, deadline: float, listener: int | None = None) -> Any:
    from torch.distributed import TCPStore

    timeout = timedelta(seconds=max(1.0, deadline - time.monotonic()))
    options = {"is_master": listener is not None, "timeout": timeout, "wait_for_workers": False}
    if listener is not None:
        options["master_listen_fd"] = listener
    return TCPStore(host, port, **options)


def _spoil(store: Any, rank: int, text: str) -> ValueError:
    """Tell the others, who would wait for a group that cannot be. Rank 0, whose store it is, stays until they know."""
    store.set(SPOILT, text)
    if rank:
        store.add("told", 1)
    end = time.monotonic() + TELL_S
    while rank == 0 and store.add("told", 0) < _others_here(store) and time.monotonic() < end:
        time.sleep(LOOK_S)
    return ValueError(text)


def _others_here(store: Any) -> int:
    rank = 1
    here = 0
    while store.check([f"claims/{rank}"]):
        here += store.add(f"claims/{rank}", 0)
        rank += 1
    return here


def _note_key(group_name: str) -> bytes:
    return f"meet/{group_name}".encode()
