"""For all suites: a registry of clusters of our own, so that neither do we see the user's clusters nor they ours."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator

import pytest
from hypothesis import settings

_folder = tempfile.TemporaryDirectory(prefix="raybook-tests-")
# At import, before any test module can start a cluster; children inherit it.
os.environ["RAYBOOK_REGISTRY_DIR"] = _folder.name

# The same cases at every run, so that a red run is red again for whoever looks; HYPOTHESIS_PROFILE=explore tries new
# ones, `make chaos` does.
settings.register_profile("same", derandomize=True, database=None, deadline=None)
settings.register_profile("explore", database=None, deadline=None)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "same"))


@pytest.fixture(scope="session", autouse=True)
def registry_of_its_own() -> Iterator[None]:
    yield
    _folder.cleanup()
