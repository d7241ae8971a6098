"""Actors that a deployment's replicas share, broadcasts, and what the details of a cluster say; on a real cluster."""

from __future__ import annotations

import os

import pytest

import raybook
from raybook import serve
from raybook.exceptions import RayActorError
from raybook.serve.config import DeploymentActorConfig
from raybook.serve.schema import ServeInstanceDetails

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("apps"), pytest.mark.timeout(120)]


@raybook.remote(num_cpus=0)
class Tally:
    """What replicas share in these tests."""

    def __init__(self, start: int = 0) -> None:
        self.count = start

    def add(self) -> int:
        self.count += 1
        return self.count

    def whose(self) -> tuple[str, str, str]:
        found = serve.get_deployment_actor_context()
        return found.app_name, found.deployment, found.actor_name

    def die(self) -> None:
        os._exit(1)


def test_replicas_share_actors_that_are_replaced_and_go_with_the_deployment(eventually):
    shared = DeploymentActorConfig(name="tally", actor_class=Tally, init_kwargs={"start": 10})

    @serve.deployment(num_replicas=2, deployment_actors=[shared], graceful_shutdown_wait_loop_s=0.05)
    class Counts:
        def __init__(self) -> None:
            self.tally = serve.get_deployment_actor("tally")

        async def __call__(self) -> int:
            return await self.tally.add.remote()

        async def whose(self) -> tuple[str, str, str]:
            return await self.tally.whose.remote()

        async def kill(self) -> None:
            await self.tally.die.remote()

        async def again(self) -> int:
            return await serve.get_deployment_actor("tally").add.remote()

        async def absent(self) -> None:
            serve.get_deployment_actor("absent")

    handle = serve.run(Counts.bind(), name="shared", route_prefix=None)
    assert sorted(handle.remote().result() for _ in range(6)) == [11, 12, 13, 14, 15, 16]
    assert handle.whose.remote().result() == ("shared", "Counts", "tally")
    with pytest.raises(ValueError, match="absent"):
        handle.absent.remote().result()
    with pytest.raises(RayActorError):
        handle.kill.remote().result()

    def is_there_again() -> bool:
        try:
            return handle.again.remote().result() >= 11
        except (ValueError, RayActorError):
            return False

    eventually(is_there_again)
    serve.delete("shared")
    names = [row["name"] for row in raybook.util.list_named_actors(all_namespaces=True)]
    assert not [name for name in names if name.startswith("SERVE_DEPLOYMENT_ACTOR")]


def test_a_shared_actor_that_cannot_start_fails_the_deployment():
    @raybook.remote(num_cpus=0)
    class Broken:
        def __init__(self) -> None:
            raise RuntimeError("no index file")

    @serve.deployment(deployment_actors=[{"name": "index", "actor_class": Broken}])
    class Needs:
        def __call__(self) -> None: ...

    with pytest.raises(RuntimeError, match="'index' failed to start.*"):
        serve.run(Needs.bind(), route_prefix=None)
    overview = serve.status().applications["default"].deployments["Needs"]
    assert (overview.status, overview.status_trigger) == ("DEPLOY_FAILED", "DEPLOYMENT_ACTOR_FAILED")
    assert "no index file" in overview.message


def test_a_broadcast_reaches_every_replica():
    @serve.deployment(num_replicas=3)
    class Cache:
        def pid(self, more: int = 0) -> int:
            return os.getpid() + more

        def picky(self) -> None:
            raise KeyError("each")

    handle = serve.run(Cache.bind(), route_prefix=None)
    pids = handle.broadcast("pid").results(timeout_s=60)
    assert len(set(pids)) == 3
    assert sorted(handle.broadcast("pid", more=1).results()) == sorted(pid + 1 for pid in pids)
    with pytest.raises(KeyError, match="each"):
        handle.broadcast("picky").results()
    assert len(handle.broadcast("picky").results(return_exceptions=True)) == 3


def test_details_are_told_in_rays_classes():
    @serve.deployment(user_config={"a": 1}, max_ongoing_requests=7)
    class Child:
        def reconfigure(self, given: dict) -> None: ...

    @serve.deployment
    class Parent:
        def __init__(self, child: object) -> None: ...

    serve.run(Parent.bind(Child.bind()), name="family", route_prefix="/family")
    found = ServeInstanceDetails.of(serve.details())
    (proxy,) = found.proxies.values()
    assert proxy.status == "HEALTHY"
    app = found.applications["family"]
    assert (app.status, app.route_prefix, app.source) == ("RUNNING", "/family", "imperative")
    child = app.deployments["Child"]
    assert (child.status, child.target_num_replicas, child.required_resources) == ("HEALTHY", 1, {"CPU": 1.0})
    assert (child.deployment_config.user_config, child.deployment_config.max_ongoing_requests) == ({"a": 1}, 7)
    assert [replica.state for replica in child.replicas] == ["RUNNING"]
    assert app.deployment_topology.nodes["Parent"].outbound_deployments == [{"name": "Child", "app_name": "family"}]
    assert found._get_status() == serve.status()
    assert ServeInstanceDetails.of({}).applications == {}
