"""Fixtures of the kernel tests: a real ipykernel whose clusters are scripts of facts."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.kernel.kernel_process import KernelProcess

SCRIPTED = """
import time
import raybook_kernel
from IPython import get_ipython
from raybook_kernel.session import session_of
from raybook.base.facts import Fact
from raybook.testing.scripted_cluster import ScriptedCluster
from raybook.testing.scripted_facts import sweep_script
cluster = ScriptedCluster()
raybook_kernel.load_ipython_extension(get_ipython())
session = session_of(get_ipython())
session.access = cluster
def counted(n, running=1):
    row = {"name": "square", "finished": n, "running": running}
    return Fact("task_group", "square", row)
"""


@pytest.fixture(scope="module")
def kernel_of_module(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KernelProcess]:
    with KernelProcess(tmp_path_factory.mktemp("kernel")) as process:
        outcome = process.run(SCRIPTED)
        assert outcome.status == "ok", outcome.error
        yield process


@pytest.fixture
def kernel(kernel_of_module: KernelProcess) -> Iterator[KernelProcess]:
    """A kernel with the extension loaded and no cluster, before and after."""
    yield kernel_of_module
    kernel_of_module.run("if session.is_connected: session.stop()")


@pytest.fixture
def own_kernel(tmp_path: Path) -> Iterator[KernelProcess]:
    """A kernel for one test alone, nothing loaded."""
    with KernelProcess(tmp_path) as process:
        yield process
