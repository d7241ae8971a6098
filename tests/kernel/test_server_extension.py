"""The server extension in a real Jupyter server, over HTTP."""

from __future__ import annotations

import asyncio
import http.cookiejar
import os
import re
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from tornado.httpclient import HTTPClientError
from tornado.websocket import websocket_connect

from raybook.io.cluster_registry import ClusterRecord, Owner, remove_record, write_record
from raybook.io.process import start_time
from raybook_kernel.server.commands import COMMAND_NAMES
from raybook_kernel.server.handlers import routes
from tests.jupyter_process import SOURCE_ROOTS, JupyterProcess

KERNEL = "0f5e2a1c-7a0e-4c8e-9d8b-3f6f0a2b7c11"
PUBLIC_FIELDS = {
    "cluster_id", "name", "address", "head_pid", "owner_kernel_id", "persist", "env_prefix", "python_version",
    "raybook_version", "created_unix_ms", "resources", "idle_timeout_s", "idle_since_unix_ms",
}  # fmt: skip
PATHS = ["raybook/ping", "raybook/clusters", f"raybook/clusters/by-kernel/{KERNEL}"]
POSTS = ["raybook/clusters", *(f"raybook/clusters/none/{command}" for command in COMMAND_NAMES)]
SOCKET = "raybook/ws"
PATHS_OF_SOURCES = {"PYTHONPATH": os.pathsep.join(SOURCE_ROOTS)}


@pytest.fixture(scope="module")
def jupyter(tmp_path_factory: pytest.TempPathFactory) -> Iterator[JupyterProcess]:
    # Behind a prefix, as on a hub: a route that forgets the base URL fails every test here.
    with JupyterProcess(tmp_path_factory.mktemp("jupyter"), base_url="/user/alice/") as process:
        yield process


@pytest.fixture
def registry(jupyter: JupyterProcess) -> Iterator[Path]:
    yield jupyter.registry
    for path in jupyter.registry.glob("*.json"):
        remove_record(path.stem, jupyter.registry)


def record(cluster_id: str, *, kernel_id: str | None, created_unix_ms: int = 1) -> ClusterRecord:
    """A record whose head is this very process: alive for as long as the test runs."""
    started = start_time(os.getpid())
    assert started is not None
    return ClusterRecord(
        cluster_id=cluster_id,
        name=f"name-of-{cluster_id}",
        address="127.0.0.1:6379",
        node_socket="unix:/secret/raylet.sock",
        session_dir="/secret/session",
        token_file="/secret/token",
        head_pid=os.getpid(),
        head_start_time=started,
        owner=None if kernel_id is None else Owner(os.getpid(), started, kernel_id),
        created_unix_ms=created_unix_ms,
        resources={"CPU": 2.0, "GPU": 0.5},
    )


def test_every_route_is_walked_here():
    walked = [f"/{path}" for path in [*PATHS, *POSTS, SOCKET]]
    for pattern, *_ in routes("/"):
        assert any(re.fullmatch(pattern, path) for path in walked), f"{pattern}: add it, so that its login is tested"


@pytest.mark.parametrize("path", POSTS)
@pytest.mark.parametrize("token", [None, "0" * 32])
def test_a_command_is_refused_without_the_token(jupyter, path, token):
    assert jupyter.post(path, token=token)[0] == 403


def test_a_command_with_a_cookie_but_no_xsrf_header_is_refused(jupyter):
    """A page of another site can have a browser send the cookie; it cannot read the header's value."""
    opener = urllib.request.build_opener(urllib.request.HTTPCookieProcessor(http.cookiejar.CookieJar()))
    opener.open(f"{jupyter.url}api/status?token={jupyter.token}", timeout=10).read()
    assert opener.open(f"{jupyter.url}raybook/ping", timeout=10).status == 200
    with pytest.raises(urllib.error.HTTPError) as refused:
        opener.open(urllib.request.Request(f"{jupyter.url}raybook/clusters", b"{}", method="POST"), timeout=10)
    assert refused.value.code == 403


@pytest.mark.parametrize("token", ["", "?token=" + "0" * 32])
def test_the_socket_is_refused_without_the_token(jupyter, token):
    async def knock() -> None:
        await websocket_connect(jupyter.url.replace("http", "ws") + SOCKET + token)

    with pytest.raises(HTTPClientError) as refused:
        asyncio.run(knock())
    assert refused.value.code == 403


def test_the_servers_environment_is_spared():
    """No heavy library, no thread, and not even grpc until a cluster is looked at."""
    code = (
        "import sys, threading, raybook_kernel.server; "
        "heavy = {'torch', 'pandas', 'pyarrow', 'numpy', 'grpc', 'ipywidgets', 'IPython'} & set(sys.modules); "
        "print(sorted(heavy), threading.active_count())"
    )
    said = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=os.environ | PATHS_OF_SOURCES
    )
    assert said.stdout.strip() == "[] 1", said.stderr


def test_a_command_for_no_cluster_says_so(jupyter, registry):
    status, answer = jupyter.post("raybook/clusters/none/stop", token=jupyter.token)
    assert (status, answer["what"]) == (404, "There is no cluster 'none' (any more).")


@pytest.mark.parametrize("path", PATHS)
def test_a_route_is_refused_without_a_token(jupyter, path):
    assert jupyter.get(path) == (403, None)


@pytest.mark.parametrize("path", PATHS)
def test_a_route_is_refused_with_a_wrong_token(jupyter, path):
    assert jupyter.get(path, token="0" * 32) == (403, None)


@pytest.mark.parametrize("path", PATHS)
def test_a_route_answers_with_the_token(jupyter, path):
    status, answer = jupyter.get(path, token=jupyter.token)
    assert status == 200
    assert isinstance(answer, dict)


def test_ping_says_which_api_it_speaks(jupyter):
    said = {"api_version": 2, "commands": list(COMMAND_NAMES), "ws": True}
    assert jupyter.get("raybook/ping", token=jupyter.token) == (200, said)


def test_no_cluster_is_an_answer(jupyter, registry):
    assert jupyter.get("raybook/clusters", token=jupyter.token) == (200, {"clusters": []})
    assert jupyter.get(f"raybook/clusters/by-kernel/{KERNEL}", token=jupyter.token) == (200, {"cluster": None})


def test_clusters_of_all_kernels_are_listed_oldest_first(jupyter, registry):
    write_record(record("young", kernel_id=KERNEL, created_unix_ms=20), registry)
    write_record(record("old", kernel_id=None, created_unix_ms=10), registry)

    _, answer = jupyter.get("raybook/clusters", token=jupyter.token)

    assert [cluster["cluster_id"] for cluster in answer["clusters"]] == ["old", "young"]
    assert answer["clusters"][1]["resources"] == {"CPU": 2.0, "GPU": 0.5}


def test_a_kernel_is_shown_its_own_newest_cluster(jupyter, registry):
    write_record(record("first", kernel_id=KERNEL, created_unix_ms=10), registry)
    write_record(record("second", kernel_id=KERNEL, created_unix_ms=20), registry)
    write_record(record("other", kernel_id="another-kernel", created_unix_ms=30), registry)

    _, answer = jupyter.get(f"raybook/clusters/by-kernel/{KERNEL}", token=jupyter.token)

    assert answer["cluster"]["cluster_id"] == "second"
    assert answer["cluster"]["owner_kernel_id"] == KERNEL


def test_nothing_but_the_public_fields_leaves_the_machine(jupyter, registry):
    write_record(record("mine", kernel_id=KERNEL), registry)

    _, answer = jupyter.get("raybook/clusters", token=jupyter.token)

    assert answer["clusters"][0].keys() == PUBLIC_FIELDS
    assert "secret" not in str(answer)


def test_a_cluster_whose_head_died_is_not_shown(jupyter, registry):
    dead = record("dead", kernel_id=KERNEL)
    dead.head_start_time += 1  # The pid lives, but it is another process now.
    write_record(dead, registry)

    assert jupyter.get("raybook/clusters", token=jupyter.token) == (200, {"clusters": []})


def test_a_broken_record_hides_no_other(jupyter, registry):
    write_record(record("whole", kernel_id=None), registry)
    (registry / "half.json").write_text('{"cluster_id": "half"')

    _, answer = jupyter.get("raybook/clusters", token=jupyter.token)

    assert [cluster["cluster_id"] for cluster in answer["clusters"]] == ["whole"]


@pytest.mark.parametrize("kernel_id", ["..%2F..%2Fetc%2Fpasswd", "a%2Fb", "%00"])
def test_a_kernel_id_that_is_none_is_no_route(jupyter, kernel_id):
    assert jupyter.get(f"raybook/clusters/by-kernel/{kernel_id}", token=jupyter.token) == (404, None)
