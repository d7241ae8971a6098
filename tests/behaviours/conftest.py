"""One cluster for each module of behaviours: what Ray's users and their tests rely on, checked against Ray itself.

Everything remote here is defined inside functions, as in a notebook, and travels by value. With
RAYBOOK_TEST_ENGINE=session the tests run as a thin client's, whose owner is a process of the head.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import pytest

import raybook
from raybook.api.context import current_runtime

THIN = {"persist": True, "session": "behaviours"} if os.environ.get("RAYBOOK_TEST_ENGINE") == "session" else {}


@pytest.fixture(scope="module")
def ray() -> Iterator[ModuleType]:
    """``raybook``, connected to a cluster of eight CPUs, two (pretended) GPUs and two of "custom"."""
    raybook.shutdown()
    raybook.init(num_cpus=8, num_gpus=2, resources={"custom": 2}, namespace="behaviours", **THIN)
    cluster = current_runtime.cluster
    yield raybook
    raybook.shutdown()
    cluster.stop()


@pytest.fixture
def till() -> Callable[..., object]:
    """Ask again until the answer is true, for what no message announces; fails after ten seconds."""

    def ask(question: Callable[[], object]) -> object:
        end = time.monotonic() + 10
        while not (answer := question()):
            assert time.monotonic() < end, "it did not come true within 10 s"
            time.sleep(0.02)
        return answer

    return ask


@pytest.fixture
def stopped(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    """``raybook`` without a cluster, before and after. Not for modules that use ``ray``."""
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.delenv("RAYBOOK_ADDRESS", raising=False)
    raybook.shutdown()
    yield raybook
    raybook.shutdown()


@pytest.fixture
def attempts(tmp_path: Path) -> Callable[[str], int]:
    """Counts across processes that die: each call adds one to the named counter and returns it."""
    folder = str(tmp_path)

    def count(name: str = "attempts") -> int:
        with open(f"{folder}/{name}", "ab") as file:
            file.write(b".")
            return file.tell()

    return count


@pytest.fixture
def gate(ray: ModuleType) -> Iterator[object]:
    """An actor on which remote code waits: ``arrive`` counts, ``arrived(n)`` waits for n, ``wait`` waits for ``open``."""

    @ray.remote(num_cpus=0)
    class Gate:
        def __init__(self) -> None:
            import asyncio

            self.opened = asyncio.Event()
            self.changed = asyncio.Condition()
            self.arrivals = 0

        async def arrive(self) -> int:
            async with self.changed:
                self.arrivals += 1
                self.changed.notify_all()
            return self.arrivals

        async def arrived(self, count: int) -> int:
            async with self.changed:
                await self.changed.wait_for(lambda: self.arrivals >= count)
            return self.arrivals

        async def open(self) -> None:
            self.opened.set()

        async def wait(self) -> None:
            await self.opened.wait()

    actor = Gate.remote()
    yield actor
    if ray.is_initialized():
        ray.kill(actor)
