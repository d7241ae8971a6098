"""Fixtures of the library tests: one small cluster for all tests of a module that ask for it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator

import pytest

from raybook import api


@pytest.fixture(scope="module")
def four_cpus() -> Iterator[None]:
    """A cluster of four CPUs, gone at the end of the module."""
    api.init(num_cpus=4)
    yield
    api.shutdown()


@pytest.fixture
def make_gate(request: pytest.FixtureRequest) -> Iterator[Callable[[], api.ActorHandle]]:
    """Makes gates: remote code waits at ``wait()`` until the test says ``open()``, so that no test has to sleep. On the
    cluster that the test's module has; else on one of four CPUs."""
    if not api.is_initialized():
        request.getfixturevalue("four_cpus")
    gates = []

    class Gate:
        def __init__(self) -> None:
            self.opened = asyncio.Event()

        async def open(self) -> None:
            self.opened.set()

        async def wait(self) -> None:
            await self.opened.wait()

    def make() -> api.ActorHandle:
        gates.append(api.remote(num_cpus=0)(Gate).remote())
        return gates[-1]

    yield make
    for gate in gates:
        api.kill(gate)


@pytest.fixture(scope="module")
def cluster() -> Iterator[None]:
    """A cluster of two CPUs, gone at the end of the module."""
    api.init(num_cpus=2)
    yield
    api.shutdown()


@pytest.fixture
def eventually():
    """Wait until a condition about other processes holds; fail after half a minute, which a busy machine may need. For what
    no message announces."""

    def wait_until(condition):
        end = time.monotonic() + 30
        while not condition():
            assert time.monotonic() < end, "the condition did not come true within 30 s"
            time.sleep(0.02)

    return wait_until
