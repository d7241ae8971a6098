"""What the tests of Train share: a wait, a folder for marks, and one cluster for the tests with frameworks. Its workers are
forked from a process that has these: importing them takes each worker longer than everything that it does here. The
modules that use it sort last: all others have clusters of their own."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from raybook import api


@pytest.fixture(scope="session")
def with_frameworks() -> Iterator[None]:
    """A cluster of four CPUs, gone at the end of the run."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAYBOOK_WORKER_PRELOAD", "torch,xgboost,lightgbm")
        api.init(num_cpus=4)
    yield
    api.shutdown()


def wait_for(condition: Callable[[], object], seconds: float = 60) -> None:
    """Until it holds."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "the condition did not come true"
        time.sleep(0.02)


@pytest.fixture
def marks(tmp_path: Path) -> Path:
    """A folder in which what runs elsewhere leaves files."""
    folder = tmp_path / "marks"
    folder.mkdir()
    return folder
