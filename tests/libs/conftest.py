"""Fixtures of the library tests: one small cluster for all tests of a module that ask for it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from raybook import api


@pytest.fixture(scope="module")
def cluster() -> Iterator[None]:
    """A cluster of two CPUs, gone at the end of the module."""
    api.init(num_cpus=2)
    yield
    api.shutdown()
