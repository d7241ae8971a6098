"""RandomAccessDataset: rows by key. Actors hold the blocks of a sorted dataset, and search them.

Blocks are views of the store, so workers of one node share their memory. The driver knows the greatest key of each block,
and asks a worker that holds the one in question. Source: Ray's `to_random_access_dataset`.
"""

from __future__ import annotations

import bisect
import time
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from raybook.api import ObjectRef, get, put, remote
from raybook.data.batches import to_rows

if TYPE_CHECKING:
    from raybook.data.dataset_base import DatasetBase


class RandomAccessDataset:
    """Made by `Dataset.to_random_access_dataset`. ValueError for a key that is no column, or no workers."""

    def __init__(self, ds: DatasetBase, key: str, num_workers: int) -> None:
        if num_workers < 1:
            raise ValueError(f"`num_workers` must be at least 1, got {num_workers}.")
        started = time.perf_counter()
        bundles = [one for one in ds.sort(key)._bundles() if one.num_rows]  # type: ignore[attr-defined]
        bounds = get([_bounds.remote(one.ref, key) for one in bundles])
        self._lowest = bounds[0][0] if bounds else None
        self._highest = [high for _, high in bounds]
        count = max(1, min(num_workers, len(bundles)))
        worker = remote(num_cpus=0)(_Worker)
        held = [{index: bundles[index].ref for index in range(who, len(bundles), count)} for who in range(count)]
        self._workers = [worker.remote(key, list(blocks), *blocks.values()) for blocks in held]
        get([one.ready.remote() for one in self._workers])
        self._build_s = time.perf_counter() - started

    def get_async(self, key: Any) -> ObjectRef:
        """A ref of the row with this key, of None if there is none."""
        index = self._block_of(key)
        if index is None:
            return put(None)
        return self._worker_of(index).find.remote(index, key)

    def multiget(self, keys: list[Any]) -> list[dict[str, Any] | None]:
        """The rows with these keys, in order; None where there is none. Cost: a call for each block that is asked."""
        asked: dict[int, list[int]] = {}
        for place, key in enumerate(keys):
            index = self._block_of(key)
            if index is not None:
                asked.setdefault(index, []).append(place)
        answers = [
            self._worker_of(index).find_many.remote(index, [keys[place] for place in places])
            for index, places in asked.items()
        ]
        found: list[dict[str, Any] | None] = [None] * len(keys)
        for places, rows in zip(asked.values(), get(answers), strict=True):
            for place, row in zip(places, rows, strict=True):
                found[place] = row
        return found

    def stats(self) -> str:
        """How often the workers were asked, and how long they took, as text."""
        told = get([one.stats.remote() for one in self._workers])
        blocks, accesses = [one["num_blocks"] for one in told], [one["num_accesses"] for one in told]
        mean_us = int(sum(one["total_time"] for one in told) / (1 + sum(accesses)) * 1e6)
        return (
            f"RandomAccessDataset:\n- Build time: {self._build_s:.2f}s\n- Num workers: {len(told)}\n"
            f"- Blocks per worker: {min(blocks)} min, {max(blocks)} max, {int(sum(blocks) / len(blocks))} mean\n"
            f"- Accesses per worker: {min(accesses)} min, {max(accesses)} max, {int(sum(accesses) / len(accesses))} mean\n"
            f"- Mean access time: {mean_us}us\n"
        )

    def _block_of(self, key: Any) -> int | None:
        index = bisect.bisect_left(self._highest, key)
        return None if index >= len(self._highest) or key < self._lowest else index

    def _worker_of(self, index: int) -> Any:
        return self._workers[index % len(self._workers)]


class _Worker:
    """Holds blocks, by their numbers. Searches a block through a list of its keys, made when it is first asked."""

    def __init__(self, key: str, numbers: list[int], *blocks: pa.Table) -> None:
        self._key = key
        self._blocks = dict(zip(numbers, blocks, strict=True))
        self._keys: dict[int, list[Any]] = {}
        self._accesses = 0
        self._seconds = 0.0

    def ready(self) -> bool:
        return True

    def find(self, number: int, key: Any) -> dict[str, Any] | None:
        return self.find_many(number, [key])[0]

    def find_many(self, number: int, keys: list[Any]) -> list[dict[str, Any] | None]:
        started = time.perf_counter()
        block = self._blocks[number]
        if number not in self._keys:
            self._keys[number] = block.column(self._key).to_pylist()
        known = self._keys[number]
        found: list[dict[str, Any] | None] = []
        for key in keys:
            place = bisect.bisect_left(known, key)
            is_there = place < len(known) and known[place] == key
            found.append(to_rows(block.slice(place, 1))[0] if is_there else None)
        self._seconds += time.perf_counter() - started
        self._accesses += 1
        return found

    def stats(self) -> dict[str, Any]:
        return {"num_blocks": len(self._blocks), "num_accesses": self._accesses, "total_time": self._seconds}


def _key_bounds(block: pa.Table, key: str) -> tuple[Any, Any]:
    column = block.column(key)
    return column[0].as_py(), column[len(column) - 1].as_py()


_bounds = remote(_key_bounds)
