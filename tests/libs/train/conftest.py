"""One cluster for the tests with frameworks. Its workers are forked from a process that has these: importing them takes each
worker longer than everything that it does here. The modules that use it sort last: all others have clusters of their own."""

from __future__ import annotations

from collections.abc import Iterator

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
