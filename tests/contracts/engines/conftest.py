"""One cluster for each engine; every row of the contract runs on each."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

import raybook
from raybook.api.context import current_runtime
from tests.contracts.engines.contract import PATIENCE_S, RAY, REFUSALS, SESSION, Engine, chosen

ADDRESS = "RAYBOOK_CONTRACT_RAY_ADDRESS"
"""Of a Ray cluster with the amounts that `engine` asks for; default: one is started."""
RESULTS = "RAYBOOK_CONTRACT_RESULTS"
"""A file for what each row did on each engine, as JSON; ``table.py`` reads it."""
RAY_TIMEOUT_S = 300
"""A real Ray takes ten seconds and more to start, and a process of it one."""


@pytest.fixture(scope="package", params=chosen())
def engine(request: pytest.FixtureRequest) -> Iterator[Engine]:
    """Connected; gone at the end of its rows, with whatever cluster it had."""
    name = request.param
    raybook.shutdown()
    asked = {"num_cpus": 4, "num_gpus": 2, "resources": {"disk": 2}, "namespace": "contract"}
    if name == SESSION:
        asked |= {"persist": True, "session": "contract"}
    if name == RAY:
        # Its workers give way to everything else by default, which on a busy machine is for ever.
        os.environ["RAY_worker_niceness"] = "0"
        address = os.environ.get(ADDRESS)
        asked = {"engine": "ray", "address": address, "namespace": "contract"} if address else asked | {"engine": "ray"}
    raybook.init(**asked)
    cluster = current_runtime.cluster
    yield Engine(name, raybook)
    raybook.shutdown()
    if cluster is not None:
        cluster.stop()


@pytest.fixture
def ray(engine: Engine):
    """``raybook`` on the engine of the row."""
    return engine.ray


@pytest.fixture
def get(engine: Engine):
    """``get`` that does not wait for ever."""

    def get_in_time(refs, timeout=PATIENCE_S):
        return engine.ray.get(refs, timeout=timeout)

    return get_in_time


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if "engine" in getattr(item, "fixturenames", ()) and getattr(item, "callspec", None):
            if item.callspec.params.get("engine") == RAY:
                item.add_marker(pytest.mark.timeout(RAY_TIMEOUT_S))
                item.add_marker(pytest.mark.slow)


_results: dict[str, dict[str, str]] = {}


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo) -> Iterator[None]:
    report = (yield).get_result()
    name = getattr(item, "callspec", None) and item.callspec.params.get("engine")
    if not name or not (report.when == "call" or report.failed):
        return
    refusals = getattr(item.function, REFUSALS, {})
    said = "fails" if report.failed else "skipped" if report.skipped else "refused" if name in refusals else "runs"
    row = f"{Path(item.fspath).stem}::{item.originalname}"
    _results.setdefault(row, {})[name] = said


def pytest_sessionfinish() -> None:
    if path := os.environ.get(RESULTS):
        Path(path).write_text(json.dumps(_results, indent=1))
