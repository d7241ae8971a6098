"""One cluster for each module of behaviours: what Ray's users and their tests rely on, checked against Ray itself.

Everything remote here is defined inside functions, as in a notebook, and travels by value.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from types import ModuleType

import pytest

import raybook


@pytest.fixture(scope="module")
def ray() -> Iterator[ModuleType]:
    """``raybook``, connected to a cluster of eight CPUs, two (pretended) GPUs and two of "custom"."""
    raybook.shutdown()
    raybook.init(num_cpus=8, num_gpus=2, resources={"custom": 2}, namespace="behaviours")
    yield raybook
    raybook.shutdown()


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
