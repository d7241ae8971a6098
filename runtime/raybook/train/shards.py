"""Shards: the datasets of a run, split over the workers of the current group when one of them asks.

Lives on the controller's event loop; splitting, which starts tasks, runs on a thread.
Invariant: a group's datasets are split once, so that all its shards belong together.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

from raybook.train.data_config import DataConfig


class Shards:
    """datasets: by name; a function instead of a dataset is called when the first worker asks."""

    def __init__(self, datasets: Mapping[str, Any], config: DataConfig) -> None:
        self._datasets = dict(datasets)
        self._config = config
        self._split: asyncio.Task[list[dict[str, Any]]] | None = None
        self._size = 0
        self._node_ids: list[str] = []

    def open(self, size: int, node_ids: list[str]) -> None:
        """Serve a new group."""
        self._split = None
        self._size, self._node_ids = size, node_ids

    def close(self) -> None:
        """Forget the group's shards; what feeds them ends with their last reference."""
        self._split = None

    async def shard(self, name: str, rank: int) -> Any:
        """Return one rank's iterator over a dataset. Raises KeyError, and what the dataset raises."""
        if self._split is None:
            self._split = asyncio.ensure_future(asyncio.to_thread(self._make))
        shards = await asyncio.shield(self._split)
        return shards[rank][name]

    def _make(self) -> list[dict[str, Any]]:
        datasets = {name: given() if callable(given) else given for name, given in self._datasets.items()}
        return self._config.configure(
            datasets, world_size=self._size, worker_handles=None, worker_node_ids=self._node_ids
        )
