"""A session of local mode for the tests that need an engine, gone at the end."""

import pytest

import raybook


@pytest.fixture
def ray(monkeypatch):
    """``raybook``, started in local mode with 4 CPUs and 2 GPUs."""
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.delenv("RAYBOOK_ADDRESS", raising=False)
    raybook.init(local_mode=True, num_cpus=4, num_gpus=2, resources={"disk": 3}, namespace="tests")
    yield raybook
    raybook.shutdown()


@pytest.fixture
def stopped(monkeypatch):
    """``raybook``, not started, and shut down at the end whatever the test starts."""
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.delenv("RAYBOOK_ADDRESS", raising=False)
    raybook.shutdown()
    yield raybook
    raybook.shutdown()
