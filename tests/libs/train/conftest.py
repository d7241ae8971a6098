"""One cluster for all of Train's tests that need no other. Its workers are forked from a process that has the frameworks:
importing them takes each worker longer than everything that it does here. Tests with clusters of their own sort first."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from raybook import api


@pytest.fixture(scope="session")
def four_cpus() -> Iterator[None]:
    """A cluster of four CPUs, gone at the end of the run."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAYBOOK_WORKER_PRELOAD", "torch,xgboost,lightgbm")
        api.init(num_cpus=4)
    yield
    api.shutdown()
