"""Fixtures of Serve's tests: one cluster with Serve on a free port for all tests of a module."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest

import raybook
from raybook import serve


def free_port() -> int:
    """A port that nobody has just now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


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
