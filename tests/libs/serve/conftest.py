"""Fixtures of Serve's tests: one cluster with Serve on a free port for all tests of a module."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

import raybook
from raybook import serve
from tests.libs.serve.ports import free_port


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    """Where the module's Serve answers."""
    raybook.init(num_cpus=8)
    port = free_port()
    serve.start(http_options={"port": port})
    yield f"http://127.0.0.1:{port}"
    serve.shutdown()
    raybook.shutdown()


@pytest.fixture
def apps(url: str) -> Iterator[None]:
    """Whatever a test deployed is deleted after it."""
    yield
    for name in serve.status().applications:
        serve.delete(name)
