"""Transfer counts: what each raylet of a cluster says of the objects that it received and sent."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

from raybook.cluster_utils import Cluster
from raybook.io.rpc import GrpcChannel
from raybook.protocol.messages.node import GetNodeStats


def transfer_counts(cluster: Cluster) -> dict[str, dict[str, int]]:
    """By node, as ``TransferService.statistics`` counts."""
    record: Any = cluster._record
    token = Path(record.token_file).read_bytes()
    addresses = {node.node_id.hex(): node.raylet_address for node in cluster._nodes() if node.alive}

    async def ask(address: str) -> dict[str, int]:
        channel = GrpcChannel("Raylet", address, token, timeout_s=10)
        try:
            return dict((await channel.call("GetNodeStats", GetNodeStats())).transfers)
        finally:
            await channel.close()

    async def ask_all() -> list[dict[str, int]]:
        return list(await asyncio.gather(*map(ask, addresses.values())))

    return dict(zip(addresses, asyncio.run(ask_all()), strict=True))
