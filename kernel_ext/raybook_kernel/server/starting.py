"""Starting: a cluster for a kernelspec, with the interpreter that its kernels have.

Never with the server's own: what the cluster runs must be what the notebook's kernel has. The cluster belongs to no kernel,
so it stays until somebody stops it.
"""

from __future__ import annotations

import os
import secrets
import sys
from pathlib import PurePath
from typing import Any

import msgspec

from raybook.observe import ClusterRecord, find_cluster
from raybook.observe.remote import CommandRefused, RemoteCluster
from raybook_kernel.server.nodes import run_quietly

START_S = 60.0
PYTHONS = frozenset({"python", "python3", f"python3.{sys.version_info[1]}", ""})


class Start(msgspec.Struct):
    """kernelspec: "" for the server's default one. Amounts: None for what the machine has; memory in bytes."""

    kernelspec: str = ""
    name: str = ""
    num_cpus: float | None = None
    num_gpus: float | None = None
    object_store_memory: int | None = None
    idle_timeout_s: float = 0.0


def interpreter_of(argv: list[str], language: str) -> str:
    """The Python of a kernelspec. "python" means the server's, as Jupyter itself takes it. CommandRefused for a kernel of
    another language, or one whose command begins with something else."""
    first = argv[0] if argv else ""
    if language.lower() != "python" or "python" not in PurePath(first).name:
        raise CommandRefused(
            f"Kernels of this kind are not started by a Python ({first or 'no command'}), so there is none to start a "
            "cluster with. Start it from a terminal: `raybook start --head`."
        )
    return sys.executable if first in PYTHONS else first


async def start_cluster(wish: Start, argv: list[str], language: str, environment: dict[str, str]) -> ClusterRecord:
    """Start it and wait until it serves. environment: of the kernelspec. CommandRefused with what it said when it does not
    start; ValueError for amounts that make no sense."""
    for name in ("num_cpus", "num_gpus", "object_store_memory", "idle_timeout_s"):
        amount: Any = getattr(wish, name)
        if amount is not None and amount < 0:
            raise ValueError(f"{name} is an amount, got {amount}.")
    name = wish.name.strip() or f"lab-{secrets.token_hex(2)}"
    python = interpreter_of(argv, language)
    command = [python, "-m", "raybook.cli", "start", "--head", "--port", "0", "--name", name]
    for option, amount in (
        ("--num-cpus", wish.num_cpus),
        ("--num-gpus", wish.num_gpus),
        ("--object-store-memory", wish.object_store_memory),
    ):
        if amount is not None:
            command += [option, f"{amount:g}" if isinstance(amount, float) else str(amount)]
    said = await run_quietly(command, {**os.environ, **environment}, START_S)
    if said is not None:
        hint = f" Install raybook there: {python} -m pip install raybook" if "No module named" in said else ""
        raise CommandRefused(f"The cluster could not be started with {python}: {said}{hint}")
    record = find_cluster(name)
    if record is None:
        raise CommandRefused(f"The cluster {name} was started and is gone again; its log says why.")
    if wish.idle_timeout_s:
        remote = RemoteCluster(record)
        try:
            await remote.set_idle_timeout(wish.idle_timeout_s)
        finally:
            await remote.close()
    return record
