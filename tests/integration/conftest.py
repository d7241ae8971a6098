"""Fixtures of the tests that run whole clusters: a shared cluster, small own ones, and gates.

With RAYBOOK_TEST_ENGINE=session the shared cluster is used as a thin client uses it. With RAYBOOK_TEST_ENGINE=ray the
tests that import raybook get Ray instead (from an interpreter that has it), so that tests about Ray's semantics can
be checked against Ray itself. Everything remote in these tests is defined inside functions, as in a notebook, and
therefore travels by value.
"""

from __future__ import annotations

import importlib
import os
import sys
import time
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import pytest

ENGINE = os.environ.get("RAYBOOK_TEST_ENGINE", "raybook")
IS_THIN = ENGINE == "session"
if IS_THIN:
    ENGINE = "raybook"
if ENGINE != "raybook":
    sys.modules["raybook"] = importlib.import_module(ENGINE)

ray = importlib.import_module("raybook")


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "raybook_only: a promise that goes beyond what Ray keeps")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests marked raybook_only promise more than Ray does; they are left out on the peer."""
    if ENGINE == "raybook":
        return
    reason = pytest.mark.skip(reason=f"a promise of raybook's that {ENGINE} does not make")
    for item in items:
        if item.get_closest_marker("raybook_only"):
            item.add_marker(reason)


@pytest.fixture(scope="module")
def shutdown_after_module() -> Iterator[None]:
    yield
    ray.shutdown()
    for stay in kept:
        stay.stop()
    kept.clear()


kept: list[object] = []
"""Clusters that outlive their driver."""


@pytest.fixture
def cluster(shutdown_after_module: None) -> ModuleType:
    """The shared cluster of a module: four CPUs and one (pretended) GPU, started again only if a test has ended it."""
    if not ray.is_initialized():
        if IS_THIN:
            ray.init(num_cpus=4, num_gpus=1, persist=True, session="tests")
            kept.append(ray.api.context.current_runtime.cluster)
        else:
            ray.init(num_cpus=4, num_gpus=1)
    return ray


@pytest.fixture
def own_cluster(shutdown_after_module: None) -> Iterator[Callable[..., object]]:
    """A cluster for one test: call it with the options of `init`. The shared one is ended first."""

    def start(**options: object) -> object:
        ray.shutdown()
        return ray.init(**options)

    yield start
    ray.shutdown()


@pytest.fixture
def no_cluster(shutdown_after_module: None) -> Iterator[ModuleType]:
    """No cluster at all, before and after the test."""
    ray.shutdown()
    yield ray
    ray.shutdown()


@pytest.fixture
def make_gate(cluster: ModuleType) -> Iterator[Callable[[], object]]:
    """Makes gates: actors on which remote code waits and that the test opens, so that no test has to sleep.

    `arrive()` counts and returns at once, `arrived(n)` waits for n arrivals, `wait()` waits for `open()`.
    """
    gates = []

    def make() -> object:
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

            async def count(self) -> int:
                return self.arrivals

            async def open(self) -> None:
                self.opened.set()

            async def wait(self) -> None:
                await self.opened.wait()

        gates.append(Gate.remote())
        return gates[-1]

    yield make
    if ray.is_initialized():
        for gate in gates:
            ray.kill(gate)


@pytest.fixture
def gate(make_gate: Callable[[], object]) -> object:
    return make_gate()


@pytest.fixture
def attempts(tmp_path: Path) -> Callable[[], int]:
    """Counts attempts across processes that die: each call appends a byte to a file and returns how many there are."""
    path = str(tmp_path / "attempts")

    def count() -> int:
        with open(path, "ab") as file:
            file.write(b".")
        return os.path.getsize(path)

    return count


@pytest.fixture
def recorded(tmp_path: Path) -> Callable[[], int]:
    """How many attempts have been counted, seen from the test."""
    path = tmp_path / "attempts"
    return lambda: path.stat().st_size if path.exists() else 0


@pytest.fixture
def eventually() -> Callable[[Callable[[], object]], None]:
    """Wait until a condition about other processes holds; fail after ten seconds. For what no message announces."""

    def wait_until(condition: Callable[[], object]) -> None:
        end = time.monotonic() + 10
        while not condition():
            assert time.monotonic() < end, "the condition did not come true within 10 s"
            time.sleep(0.02)

    return wait_until


@pytest.fixture
def make_wheel() -> Callable[[Path, str], str]:
    """Makes versions of the package `rb-tiny`, whose module says which one it is; their paths."""

    def make(folder: Path, version: str) -> str:
        """A package of one module, without a build tool or a network."""
        path = folder / f"rb_tiny-{version}-py3-none-any.whl"
        info = f"rb_tiny-{version}.dist-info"
        with zipfile.ZipFile(path, "w") as wheel:
            wheel.writestr("rb_tiny.py", f"VERSION = {version!r}\n")
            wheel.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: rb-tiny\nVersion: {version}\n")
            wheel.writestr(
                f"{info}/WHEEL", "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
            )
            wheel.writestr(f"{info}/RECORD", "")
        return str(path)

    return make
