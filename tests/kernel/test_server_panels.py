"""Panels and commands through a real Jupyter server to a real cluster: the socket, and every button's POST."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import time
from collections.abc import Iterator
from typing import Any

import pytest
from tornado.websocket import WebSocketClientConnection, websocket_connect

import raybook as ray
from raybook.observe import find_cluster, living_clusters
from tests.jupyter_process import JupyterProcess

pytestmark = pytest.mark.slow
WAIT_S = 20.0


@pytest.fixture(scope="module")
def jupyter(tmp_path_factory: pytest.TempPathFactory) -> Iterator[JupyterProcess]:
    with JupyterProcess(tmp_path_factory.mktemp("jupyter"), base_url="/user/alice/") as process:
        before = os.environ.get("RAYBOOK_REGISTRY_DIR")
        os.environ["RAYBOOK_REGISTRY_DIR"] = str(process.registry)
        yield process
        os.environ.pop("RAYBOOK_REGISTRY_DIR")
        if before is not None:
            os.environ["RAYBOOK_REGISTRY_DIR"] = before


@pytest.fixture
def cluster(jupyter: JupyterProcess) -> Iterator[str]:
    """Its id, once it answers others."""
    ray.init(num_cpus=2, name="<b>heron</b>")
    wait_until(lambda: (record := find_cluster("<b>heron</b>")) is not None and record.address)
    yield find_cluster("<b>heron</b>").cluster_id
    ray.shutdown()


def wait_until(is_true: Any) -> None:
    end = time.monotonic() + WAIT_S
    while not is_true():
        assert time.monotonic() < end, "It did not come about."
        time.sleep(0.02)


class Page:
    """The other end of the socket: keeps a state as a browser does."""

    def __init__(self, socket: WebSocketClientConnection) -> None:
        self.socket = socket
        self.states: dict[int, dict[str, Any]] = {}
        self.last: dict[str, Any] = {}
        self.kinds: list[str] = []

    def rows(self, table: str, sub: int = 1) -> dict[str, Any]:
        return self.states[sub]["tables"].get(table, {}) if sub in self.states else {}

    def say(self, **message: Any) -> None:
        self.socket.write_message(json.dumps(message))

    async def read_until(self, is_true: Any) -> None:
        async def reading() -> None:
            while not is_true(self):
                text = await self.socket.read_message()
                assert text is not None, "The socket was closed."
                message = self.last = json.loads(text)
                kind = next(kind for kind in ("snapshot", "delta", "error", "op") if kind in message)
                self.kinds.append(kind)
                if kind == "snapshot":
                    self.states[message["sub"]] = message["snapshot"]
                elif kind == "delta":
                    self.apply(self.states[message["sub"]], message["delta"])

        await asyncio.wait_for(reading(), WAIT_S)

    @staticmethod
    def apply(state: dict[str, Any], delta: dict[str, Any]) -> None:
        state["values"].update(delta["values"])
        for table, rows in delta["tables"].items():
            state["tables"].setdefault(table, {}).update(rows)
        for table, keys in delta["gone"].items():
            for key in keys:
                del state["tables"][table][key]


def on_page(jupyter: JupyterProcess, play: Any) -> Any:
    async def main() -> Any:
        socket = await websocket_connect(f"{jupyter.url.replace('http', 'ws')}raybook/ws?token={jupyter.token}")
        try:
            return await play(Page(socket))
        finally:
            socket.close()

    return asyncio.run(main())


@ray.remote
def hostile(seconds: float) -> None:
    time.sleep(seconds)


def states_of(page: Page, sub: int = 1) -> list[str]:
    return sorted(row["state"] for row in page.rows("tasks", sub).values())


def test_a_page_is_sent_a_snapshot_then_what_changes(jupyter, cluster):
    async def play(page: Page) -> None:
        page.say(op="subscribe", sub=1, cluster=cluster, panel="tasks")
        await page.read_until(lambda page: 1 in page.states)
        refs = [hostile.options(name="<img src=x>").remote(0) for _ in range(3)]
        await page.read_until(lambda page: states_of(page) == ["FINISHED"] * 3)
        assert {row["name"] for row in page.rows("tasks").values()} == {"<img src=x>"}
        assert page.kinds[0] == "snapshot"
        assert set(page.kinds[1:]) == {"delta"}
        del refs

    on_page(jupyter, play)


def test_a_filter_is_applied_by_the_server(jupyter, cluster):
    async def play(page: Page) -> None:
        refs = [hostile.options(name=name).remote(0) for name in ("keep", "leave")]
        page.say(op="subscribe", sub=1, cluster=cluster, panel="tasks", filter={"text": "KEEP"})
        await page.read_until(lambda page: states_of(page) == ["FINISHED"])
        page.say(op="subscribe", sub=2, cluster=cluster, panel="tasks")
        await page.read_until(lambda page: states_of(page, 2) == ["FINISHED"] * 2)
        assert states_of(page) == ["FINISHED"]
        del refs

    on_page(jupyter, play)


def test_odd_messages_are_answered_and_end_nothing(jupyter, cluster):
    async def play(page: Page) -> None:
        page.socket.write_message("{")
        await page.read_until(lambda page: "error" in page.last)
        page.say(op="subscribe", sub=4, cluster=cluster, panel="taks")
        await page.read_until(lambda page: "no panel 'taks'" in str(page.last))
        page.say(op="subscribe", sub=5, cluster="none", panel="tasks")
        await page.read_until(lambda page: page.last.get("sub") == 5)
        assert "no cluster 'none'" in page.last["error"]["what"]
        page.say(op="ping")
        await page.read_until(lambda page: page.last.get("op") == "pong")
        page.say(op="subscribe", sub=6, cluster=cluster, panel="overview")
        await page.read_until(lambda page: 6 in page.states)

    on_page(jupyter, play)


def test_a_blocked_get_wakes_by_a_post(jupyter, cluster):
    refs = [hostile.remote(60) for _ in range(3)]
    path = f"raybook/clusters/{cluster}/cancel"

    assert jupyter.post(path, {}, token=jupyter.token)[0] == 400
    assert jupyter.post(path, {"task_ids": 7}, token=jupyter.token)[0] == 400
    assert jupyter.post(path, {"all": True}, token=jupyter.token) == (
        200,
        {"ok": True, "cancelled": 3, "said": "Cancelled 3 tasks."},
    )

    for ref in refs:
        with pytest.raises(ray.exceptions.TaskCancelledError):
            ray.get(ref, timeout=10)


def test_an_actor_is_killed_by_a_post(jupyter, cluster):
    class Idle:
        def ping(self) -> int:
            return 1

    actor = ray.remote(Idle).remote()
    assert ray.get(actor.ping.remote()) == 1
    path = f"raybook/clusters/{cluster}/kill"
    assert jupyter.post(path, {"actor_id": "zz"}, token=jupyter.token)[0] == 400
    assert jupyter.post(path, {"actor_id": actor._actor_id.hex()}, token=jupyter.token)[0] == 200
    wait_until(lambda: is_dead(actor))


def is_dead(actor: Any) -> bool:
    try:
        ray.get(actor.ping.remote(), timeout=10)
    except ray.exceptions.ActorDiedError:
        return True
    return False


def test_a_trial_nobody_runs_is_refused_with_its_name(jupyter, cluster):
    path = f"raybook/clusters/{cluster}/stop-trial"
    status, answer = jupyter.post(path, {"run_id": "r", "trial_id": "t9"}, token=jupyter.token)
    assert status == 409
    assert "t9" in answer["what"]


def test_a_cluster_is_stopped_by_a_post_and_its_panes_hear_of_it(jupyter, cluster):
    async def play(page: Page) -> None:
        page.say(op="subscribe", sub=1, cluster=cluster, panel="overview")
        await page.read_until(lambda page: 1 in page.states)
        loop = asyncio.get_running_loop()
        path = f"raybook/clusters/{cluster}/stop"
        stopped = await loop.run_in_executor(None, lambda: jupyter.post(path, token=jupyter.token))
        assert stopped[0] == 200
        await page.read_until(lambda page: "error" in page.last)
        assert page.states[1]["values"]["cluster_state"] == "STOPPED"

    on_page(jupyter, play)
    assert find_cluster(cluster) is None


def test_a_cluster_is_started_with_a_kernelspecs_python_scaled_and_stopped(jupyter):
    status, answer = jupyter.post(
        "raybook/clusters", {"name": "by-button", "num_cpus": 1}, token=jupyter.token, timeout_s=60
    )
    assert status == 200, answer
    record = answer["cluster"]
    assert (record["name"], record["persist"], record["resources"]["CPU"]) == ("by-button", True, 1.0)
    path = f"raybook/clusters/{record['cluster_id']}"
    try:
        again = jupyter.post("raybook/clusters", {"name": "by-button"}, token=jupyter.token, timeout_s=60)
        assert again[0] == 409
        assert "by-button" in again[1]["what"]
        assert jupyter.post(f"{path}/scale", {"nodes": 0}, token=jupyter.token)[0] == 400
        for count in (2, 1):
            status, answer = jupyter.post(f"{path}/scale", {"nodes": count}, token=jupyter.token)
            assert (status, answer["nodes"]) == (200, count), answer
    finally:
        assert jupyter.post(f"{path}/stop", token=jupyter.token)[0] == 200
    assert find_cluster(record["cluster_id"]) is None


def test_a_kept_cluster_outlives_its_driver_and_ends_when_idle(jupyter, cluster):
    path = f"raybook/clusters/{cluster}"
    assert jupyter.post(f"{path}/idle-timeout", {"seconds": -1}, token=jupyter.token)[0] == 400
    assert jupyter.post(f"{path}/persist", token=jupyter.token)[0] == 200
    assert find_cluster(cluster).persist

    ray.shutdown()

    assert find_cluster(cluster) is not None
    assert jupyter.post(f"{path}/idle-timeout", {"seconds": 3}, token=jupyter.token)[0] == 200
    wait_until(lambda: (record := find_cluster(cluster)) is None or record.idle_since_unix_ms)
    wait_until(lambda: find_cluster(cluster) is None)


def test_a_cluster_is_handed_over_to_a_kernel_and_ends_with_that_one(jupyter, cluster):
    status, kernel = jupyter.post("api/kernels", {}, token=jupyter.token)
    assert status == 201
    path = f"raybook/clusters/{cluster}/hand-over"
    assert jupyter.post(path, {"kernel_id": "none"}, token=jupyter.token)[0] == 409
    assert jupyter.post(path, {"kernel_id": kernel["id"]}, token=jupyter.token)[0] == 200
    ray.shutdown()
    _, answer = jupyter.get(f"raybook/clusters/by-kernel/{kernel['id']}", token=jupyter.token)
    assert answer["cluster"]["cluster_id"] == cluster

    os.kill(pid_of_kernel(jupyter, kernel["id"]), signal.SIGKILL)

    wait_until(lambda: find_cluster(cluster) is None)


def pid_of_kernel(jupyter: JupyterProcess, kernel_id: str) -> int:
    owner = next(record.owner for record in living_clusters() if record.owner and record.owner.kernel_id == kernel_id)
    return owner.pid


def test_a_kernelspec_there_is_none_of_is_refused(jupyter):
    status, answer = jupyter.post("raybook/clusters", {"kernelspec": "cobol"}, token=jupyter.token)
    assert (status, "cobol" in answer["what"]) == (400, True)
