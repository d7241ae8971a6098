"""For all suites: a registry of clusters of our own, so that neither do we see the user's clusters nor they ours."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator

import pytest

_folder = tempfile.TemporaryDirectory(prefix="raybook-tests-")
# At import, before any test module can start a cluster; children inherit it.
os.environ["RAYBOOK_REGISTRY_DIR"] = _folder.name


@pytest.fixture(scope="session", autouse=True)
def registry_of_its_own() -> Iterator[None]:
    yield
    _folder.cleanup()
