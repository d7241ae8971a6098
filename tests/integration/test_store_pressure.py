"""The object store under pressure: room that is freed serves others, and what does not fit is said clearly."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import numpy as np
import pytest

import raybook as ray
from raybook.api.context import started_engine
from raybook.protocol.messages.raylet import FactsDelta

pytestmark = pytest.mark.raybook_only

MIB = 1 << 20
STORE_BYTES = 80 * MIB


@pytest.fixture(scope="module")
def small_store() -> Iterator[None]:
    ray.shutdown()
    ray.init(num_cpus=2, object_store_memory=STORE_BYTES)
    yield
    ray.shutdown()


@ray.remote
def make(mib: int, seed: int = 0) -> np.ndarray:
    return np.full(mib * MIB, seed % 251, np.uint8)


@pytest.fixture
def used_bytes(small_store: None) -> Iterator[Callable[[], int]]:
    """What the node last reported of its store."""
    rows: dict[str, int] = {"used_bytes": -1}

    def listen(delta: FactsDelta) -> None:
        for fact in delta.facts:
            if fact.kind == "store":
                rows.update(fact.row)

    unsubscribe = started_engine().subscribe_facts(listen)
    yield lambda: rows["used_bytes"]
    unsubscribe()


def test_room_a_driver_freed_serves_a_worker(small_store: None) -> None:
    refs = [ray.put(np.full(MIB, n, np.uint8)) for n in range(60)]
    assert ray.get(refs[7])[0] == 7
    del refs

    value = ray.get(make.remote(50, 3))

    assert len(value) == 50 * MIB and value[-1] == 3


def test_freed_bytes_leave_the_store_within_a_second_or_so(
    used_bytes: Callable[[], int], eventually: Callable[[Callable[[], object]], None]
) -> None:
    kept = ray.put(np.zeros(3 * MIB, np.uint8))
    freed = [ray.put(np.zeros(5 * MIB, np.uint8)) for _ in range(6)]
    eventually(lambda: used_bytes() >= 33 * MIB)
    start = time.monotonic()

    del freed
    eventually(lambda: 0 <= used_bytes() < 5 * MIB)

    assert time.monotonic() - start < 3
    assert len(ray.get(kept)) == 3 * MIB
