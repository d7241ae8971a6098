"""A session for the tests that need an engine, gone at the end.

Local mode, because these tests are about what is above the engine. ``RAYBOOK_TEST_ENGINE=native`` runs the same tests
on a cluster of this machine (0.3 s each): they hold for every engine.
"""

import os

import pytest

import raybook

IS_LOCAL = os.environ.get("RAYBOOK_TEST_ENGINE", "local") == "local"


@pytest.fixture
def ray(monkeypatch):
    """``raybook``, started with 4 CPUs and 2 GPUs."""
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.delenv("RAYBOOK_ADDRESS", raising=False)
    raybook.init(local_mode=IS_LOCAL, num_cpus=4, num_gpus=2, resources={"disk": 3}, namespace="tests")
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
