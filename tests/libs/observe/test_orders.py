"""Orders from outside: a reader that is no driver looks at a real cluster over gRPC, cancels, and is answered."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

import msgspec
import pytest

import raybook as ray
from raybook.api.context import started_engine
from raybook.api.orders import on_order
from raybook.observe import Feed, find_cluster
from raybook.observe.remote import ClusterSilent, RemoteCluster

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def record():
    ray.init(num_cpus=2)
    end = time.monotonic() + 20
    while not (found := find_cluster(started_engine().session_dir)) or not found.address:
        assert time.monotonic() < end, "The head serves no gRPC."
        time.sleep(0.05)
    yield found
    ray.shutdown()


def outside(record: Any, work: Callable[[RemoteCluster], Any]) -> Any:
    """``work`` on a loop of its own, as a server would do it."""

    async def main() -> Any:
        remote = RemoteCluster(record)
        try:
            return await work(remote)
        finally:
            await remote.close()

    return asyncio.run(main())


@ray.remote
def forever() -> None:
    while True:
        time.sleep(0.01)


def test_a_blocked_get_wakes_when_somebody_outside_cancels_its_task(record):
    refs = [forever.remote() for _ in range(4)]

    assert outside(record, lambda remote: remote.cancel(task_ids=[refs[0].task_id().hex()])) == 1
    with pytest.raises(ray.exceptions.TaskCancelledError):
        ray.get(refs[0], timeout=10)

    assert outside(record, lambda remote: remote.cancel(all=True)) == 3
    for ref in refs[1:]:
        with pytest.raises(ray.exceptions.TaskCancelledError):
            ray.get(ref, timeout=10)


def test_an_order_for_another_kernel_is_not_ours(record):
    ref = forever.remote()
    assert outside(record, lambda remote: remote.cancel(all=True, kernel_id="another")) == 0
    assert outside(record, lambda remote: remote.cancel(cell="In[7]")) == 0
    ray.cancel(ref, force=True)


def test_a_library_hears_its_own_verb_and_says_what_it_did(record):
    heard = []

    def stop(wish: dict) -> dict | None:
        heard.append(wish)
        return {"stopped": wish["trial_id"]} if wish["trial_id"] == "t1" else None

    forget = on_order("stop-trial", stop)
    assert outside(record, lambda remote: remote.order("stop-trial", run_id="r", trial_id="t1")) == [{"stopped": "t1"}]
    assert outside(record, lambda remote: remote.order("stop-trial", run_id="r", trial_id="t2")) == []
    forget()
    assert outside(record, lambda remote: remote.order("stop-trial", run_id="r", trial_id="t1")) == []
    assert heard[0] == {"verb": "stop-trial", "run_id": "r", "trial_id": "t1"}


def test_a_handlers_mistake_is_told_and_ends_nothing(record):
    forget = on_order("odd", lambda wish: {"done": wish["missing"]})
    assert outside(record, lambda remote: remote.order("odd")) == [{"error": "KeyError: 'missing'"}]
    forget()
    assert ray.get(ray.remote(lambda: 1).remote()) == 1


def test_an_actor_is_killed_and_the_feed_shows_it(record):
    class Idle:
        pass

    actor = ray.remote(Idle).remote()
    actor_id = actor._actor_id.hex()

    async def kill_and_watch(remote: RemoteCluster) -> str:
        feed = Feed(remote)
        deadline = time.monotonic() + 20
        killed = False
        while time.monotonic() < deadline:
            await remote.read_facts()
            state = {row.actor_id: row.state for row in feed.view().actors}.get(actor_id, "")
            if state == "ALIVE" and not killed:
                killed = True
                await remote.kill_actor(actor_id)
            if state == "DEAD":
                return state
            await asyncio.sleep(0.1)
        return state

    assert outside(record, kill_and_watch) == "DEAD"


def test_a_cluster_that_is_gone_is_said_to_be_silent(record):
    gone = msgspec.structs.replace(record, address="127.0.0.1:1")
    with pytest.raises(ClusterSilent, match="does not answer"):
        outside(gone, lambda remote: remote.nodes())
