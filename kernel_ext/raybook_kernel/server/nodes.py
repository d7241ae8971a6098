"""Nodes: more and fewer of them in a cluster of this machine, for a server that is not part of it.

A new node is started with the *cluster's* Python (its record says which), never with the server's: their environments may
differ, and tasks will run in it. A node that goes is drained, so that nothing has to be done again.
"""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

from raybook.observe.remote import CommandRefused, RemoteCluster

NODES_MAX = 64
"""Of one machine; a slip of the finger should not start a thousand processes."""
START_S = 40.0
LEAVE_MS = 30_000
"""What runs on a node that goes has so long to end."""


async def scale_to(remote: RemoteCluster, count: int) -> int:
    """Have ``count`` nodes, or have begun to: draining takes as long as what runs there, at most ``LEAVE_MS``. How many take
    work then. ValueError for a number that makes no sense, CommandRefused when a node does not start or leave."""
    if not 1 <= count <= NODES_MAX:
        raise ValueError(f"A cluster of this machine has 1 to {NODES_MAX} nodes, got {count}.")
    nodes = await remote.nodes()
    if count > len(nodes):
        if nodes and nodes[0].is_head and not nodes[0].gateway_address:
            raise CommandRefused(
                "This cluster was started for one node, which listens to no other one. Start it with several: "
                "`%ray_cluster start --nodes 2`, `raybook start --head`, or the sidebar's New."
            )
        await asyncio.gather(*(_start_node(remote) for _ in range(count - len(nodes))))
    for node in reversed(nodes[count:]):
        await remote.drain(node.node_id, LEAVE_MS)
    return len(await remote.nodes())


async def _start_node(remote: RemoteCluster) -> None:
    record = remote.record
    python = Path(record.env_prefix) / "bin" / "python"
    if not python.is_file():
        raise CommandRefused(f"The cluster's Python, {python}, is not on this machine: start nodes where it is.")
    command = [
        str(python),
        "-m",
        "raybook.cli",
        "start",
        "--address",
        record.address,
        "--token-file",
        record.token_file,
    ]
    text = await run_quietly([*command, "--num-gpus", "0"], dict(os.environ), START_S)
    if text is not None:
        raise CommandRefused(f"A node could not be started: {text}")


async def run_quietly(command: list[str], environment: dict[str, str], timeout_s: float) -> str | None:
    """Run a program; None when it ended well, else the end of what it said."""
    process = await asyncio.create_subprocess_exec(
        *command,
        env=environment,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        start_new_session=True,
    )
    try:
        said, _ = await asyncio.wait_for(process.communicate(), timeout_s)
    except asyncio.TimeoutError:
        process.kill()
        return f"`{' '.join(command[:4])}` did not end within {timeout_s:g} s."
    return None if process.returncode == 0 else said.decode("utf-8", "replace").strip()[-2_000:]
