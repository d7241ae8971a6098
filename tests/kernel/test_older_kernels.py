"""The way of messages on older ipykernels, each in a folder of its own before the environment's: 6.29 (no subshells) and 7.3
(subshells, another routing of comms). The other tests of this folder run on the one that is installed.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest

from tests.kernel.conftest import SCRIPTED
from tests.kernel.kernel_process import SOURCE_ROOTS, KernelProcess

OLDER = ("6.29.5", "7.3.0")
NEEDS = {"6.29.5": ["nest_asyncio"]}
PATIENCE_S = 25.0
INSTALL_S_MAX = 150

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


def installed(release: str, cache: Path) -> Path:
    """A folder with this ipykernel and nothing else; made once, kept in pytest's cache. Skips where there is no index."""
    folder = cache / release
    if (folder / "ipykernel").is_dir():
        return folder
    making = cache / f"{release}-{os.getpid()}"
    command = [sys.executable, "-m", "pip", "install", "-q", "--disable-pip-version-check", "--no-deps", "--no-compile"]
    command += ["--target", str(making), f"ipykernel=={release}", *NEEDS.get(release, ())]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=INSTALL_S_MAX)
        said = done.stderr.strip()[-300:] if done.returncode else ""
    except subprocess.TimeoutExpired:
        said = f"the index had not answered in {INSTALL_S_MAX} s"
    if said:
        shutil.rmtree(making, ignore_errors=True)
        pytest.skip(f"ipykernel {release} could not be installed: {said}")
    making.rename(folder)
    return folder


@pytest.fixture(scope="module", params=OLDER)
def older(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[KernelProcess]:
    folder = installed(request.param, request.config.cache.mkdir("raybook-ipykernel"))
    home = tmp_path_factory.mktemp("older")
    with KernelProcess(home, PYTHONPATH=os.pathsep.join([str(folder), *SOURCE_ROOTS])) as process:
        outcome = process.run(SCRIPTED)
        assert outcome.status == "ok", outcome.error
        assert process.value("__import__('ipykernel').__version__") == request.param
        yield process


@pytest.fixture
def kernel(older: KernelProcess) -> Iterator[KernelProcess]:
    """One with a scripted cluster, whose panel is shown."""
    outcome = older.run("%ray_cluster start --name fox")
    assert outcome.error == ""
    yield older
    older.run("if session.is_connected: session.stop()")


def brings(text: str) -> Any:
    """Whether a message of a panel has this in it."""
    return lambda message: message["msg_type"] == "comm_msg" and text in str(message["content"])


def test_the_installed_kernel_is_newer_than_these():
    release = re.findall(r"\d+", version("ipykernel"))
    assert [int(part) for part in release[:2]] >= [7, 4]


def test_panels_move_while_the_cell_blocks(kernel, tmp_path):
    gate = tmp_path / "gate"
    cell = kernel.begin(
        "import os\ncluster.source.publish(counted(41))\n"
        f"while not os.path.exists({str(gate) + '1'!r}): time.sleep(0.01)\n"
        "cluster.source.publish(counted(42))\n"
        f"while not os.path.exists({str(gate) + '2'!r}): time.sleep(0.01)"
    )
    # The cell ends only after both were seen.
    kernel.listen_until(brings("'finished': 41"), PATIENCE_S)
    Path(f"{gate}1").touch()
    kernel.listen_until(brings("'finished': 42"), PATIENCE_S)
    Path(f"{gate}2").touch()
    assert kernel.wait(cell).status == "ok"


def test_a_late_line_goes_to_the_cell_that_submitted(kernel):
    first = kernel.begin("begun = time.time() * 1000; time.sleep(0.02)")
    kernel.wait(first)
    task = "Fact('task', 't', {'name': 'square', 'worker_pid': 7, 'started_ms': begun, 'state': 'RUNNING'})"
    log = "Fact('log', '1', {'source': 'out', 'pid': 7, 'name': '', 'line': 'late'})"
    second = kernel.begin(f"cluster.source.publish({task}, {log})")
    line = kernel.listen_until(lambda m: m["msg_type"] == "stream" and "late" in m["content"]["text"], PATIENCE_S)
    assert line["content"]["text"] == "(square pid=7) late\n"
    assert line["parent_header"]["msg_id"] == first != second


def test_an_interrupt_ends_the_cell_alone_and_idle_ones_come_to_us(kernel):
    cell = kernel.begin("print('waiting', flush=True); time.sleep(60)")
    kernel.listen_until(lambda m: m["msg_type"] == "stream" and "waiting" in m["content"]["text"], PATIENCE_S)
    kernel.interrupt()
    # Not by its text: once, on a busy machine, 6.29 answered "error" and showed none.
    assert kernel.wait(cell).status == "error"
    assert kernel.value("session.is_connected") is True
    watches = "get_ipython().kernel.saved_sigint_handler == session.interrupts._on_idle_interrupt"
    assert kernel.value(f"hasattr(get_ipython().kernel, 'saved_sigint_handler') and {watches}") is True


def test_magics_complete_and_errors_are_a_line(kernel):
    assert kernel.complete("%ray_cluster sta") == ["start", "status"]
    assert "Did you mean 'status'?" in kernel.run("%ray_cluster statos").error


def test_the_last_picture_stays_as_html(kernel):
    final = kernel.run("%ray_cluster stop").of("update_display_data")[-1]
    assert "stopped" in final["content"]["data"]["text/html"]
