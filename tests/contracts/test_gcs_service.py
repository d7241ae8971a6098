"""The GCS service through its methods, over a function call and over gRPC, in memory and on SQLite."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from raybook.base.config import Config
from raybook.base.facts import ACTOR_ALIVE, ACTOR_DEAD, ACTOR_RESTARTING, Fact
from raybook.base.specs import ActorSpec, Endpoint
from raybook.gcs.service import GcsService
from raybook.io.channel import Channel, LocalChannel, RemoteError
from raybook.io.rpc import GrpcChannel, serve_grpc
from raybook.io.sqlite_storage import SqliteStorage
from raybook.io.storage import MemoryStorage, Storage
from raybook.protocol.messages import gcs as messages
from raybook.protocol.messages.node import ActorChanged, PlaceActor, SetObserved, StopActor, StopNode
from raybook.testing.fake_raylet import FakeRaylet

TOKEN = b"t" * 32
NODE = b"node-a.."


class HandClock:
    """Time that only a test moves."""

    def __init__(self) -> None:
        self.now_ms = 1_000_000

    def __call__(self) -> int:
        return self.now_ms


class World:
    """A GCS, a channel to it, and fake raylets by node id."""

    def __init__(self, storage: Storage, config: Config | None = None) -> None:
        self.clock = HandClock()
        self.raylets: dict[bytes, FakeRaylet] = {}
        self.gcs = GcsService(
            config or Config(), self.clock, storage, lambda node: self.raylets[node.node_id], cluster_id=b"cluster."
        )
        self.channel: Channel = LocalChannel(self.gcs)

    async def call(self, request: object) -> object:
        return await self.channel.call(type(request).__name__, request)

    async def add_raylet(self, node_id: bytes = NODE, cpus: int = 4, address: str = "") -> FakeRaylet:
        raylet = self.raylets[node_id] = FakeRaylet(node_id, cpus, address)
        await raylet.register(self.channel)
        return raylet

    async def actor(self, actor_id: bytes) -> messages.ActorInfo:
        rows = (await self.call(messages.ListActors())).actors
        return next(row for row in rows if row.actor_id == actor_id)


@contextlib.asynccontextmanager
async def local_world(folder: Path) -> AsyncIterator[World]:
    world = World(MemoryStorage())
    await world.gcs.start()
    yield world
    await world.gcs.close()


@contextlib.asynccontextmanager
async def grpc_world(folder: Path) -> AsyncIterator[World]:
    storage = SqliteStorage(folder / "gcs.sqlite")
    world = World(storage)
    await world.gcs.start()
    server = await serve_grpc(world.gcs, "Gcs", "127.0.0.1:0", TOKEN)
    world.channel = GrpcChannel("Gcs", server.address, TOKEN)
    yield world
    await world.channel.close()
    await server.stop()
    await world.gcs.close()
    storage.close()


FORMS = {"local-memory": local_world, "grpc-sqlite": grpc_world}


def in_world(form: str, folder: Path, story: Callable) -> None:
    """Run one test's coroutine in a fresh world."""

    async def main() -> None:
        async with FORMS[form](folder) as world:
            await asyncio.wait_for(story(world), 10)

    asyncio.run(main())


def spec_of(number: int = 1, **changes: object) -> ActorSpec:
    values = {
        "actor_id": b"actor%03d" % number,
        "job_id": b"job.....",
        "class_name": "Counter",
        "owner": Endpoint(b"owner...", NODE, "unix:/o"),
        "resources": {},
        "placement": {"CPU": 10_000},
        "creation": b"closure",
        "namespace": "ns",
    }
    return ActorSpec(**{**values, **changes})


both_forms = pytest.mark.parametrize("form", sorted(FORMS))


@both_forms
def test_actor_is_placed_lives_and_is_found_by_name(form, tmp_path):
    async def story(world: World) -> None:
        raylet = await world.add_raylet()
        spec = spec_of(name="x", handle=b"handle")
        assert (await world.call(messages.CreateActor(spec))).existing is None
        (placed,) = await raylet.wait_for(PlaceActor)
        assert placed.spec == spec
        await raylet.report_alive(world.channel, spec.actor_id)
        info = await world.actor(spec.actor_id)
        assert (info.state, info.pid, info.endpoint.address) == (ACTOR_ALIVE, 99, "unix:/worker")
        found = (await world.call(messages.GetNamedActor("x", "ns"))).spec
        assert (found.actor_id, found.handle, found.creation) == (spec.actor_id, b"handle", b"")

    in_world(form, tmp_path, story)


@both_forms
def test_taken_name_raises_with_the_code_of_its_exception(form, tmp_path):
    async def story(world: World) -> None:
        await world.call(messages.CreateActor(spec_of(1, name="x")))
        with pytest.raises(RemoteError, match="The name 'x' is already taken") as caught:
            await world.call(messages.CreateActor(spec_of(2, name="x")))
        assert caught.value.code == "ActorAlreadyExistsError"
        existing = (await world.call(messages.CreateActor(spec_of(3, name="x"), get_if_exists=True))).existing
        assert existing.actor_id == spec_of(1).actor_id

    in_world(form, tmp_path, story)


@both_forms
def test_watching_node_hears_of_every_change_in_order(form, tmp_path):
    async def story(world: World) -> None:
        raylet = await world.add_raylet()
        spec = spec_of(max_restarts=1)
        await world.call(messages.CreateActor(spec))
        (now,) = (await world.call(messages.WatchActors(NODE, [spec.actor_id]))).actors
        assert now.state == "PENDING_CREATION"
        await raylet.wait_for(PlaceActor)
        await raylet.report_alive(world.channel, spec.actor_id)
        await raylet.report_dead(world.channel, spec.actor_id)
        await raylet.wait_for(PlaceActor, 2)
        await world.call(messages.KillActor(spec.actor_id))
        changes = await raylet.wait_for(ActorChanged, 3)
        assert [change.actor.state for change in changes] == [ACTOR_ALIVE, ACTOR_RESTARTING, ACTOR_DEAD]
        assert (await raylet.wait_for(StopActor))[0].incarnation == 1

    in_world(form, tmp_path, story)


@both_forms
def test_finished_job_ends_its_actors(form, tmp_path):
    async def story(world: World) -> None:
        raylet = await world.add_raylet()
        driver = Endpoint(b"owner...", NODE, "unix:/o")
        await world.call(messages.RegisterJob(b"job.....", driver, 4711))
        assert world.gcs.driver_pid(b"owner...") == 4711
        await world.call(messages.CreateActor(spec_of()))
        await world.call(messages.FinishJob(b"job.....", "the kernel was killed"))
        assert "the kernel was killed" in (await raylet.wait_for(StopActor))[0].reason
        status = await world.call(messages.ClusterStatus())
        assert (status.jobs, status.actors_alive, status.cluster_id) == (0, 0, b"cluster.")

    in_world(form, tmp_path, story)


@both_forms
def test_keys_are_put_kept_listed_and_deleted(form, tmp_path):
    async def story(world: World) -> None:
        assert (await world.call(messages.KvPut("a", b"k1", b"v1"))).added
        assert not (await world.call(messages.KvPut("a", b"k1", b"v2", overwrite=False))).added
        assert (await world.call(messages.KvGet("a", b"k1"))).value == b"v1"
        assert (await world.call(messages.KvGet("b", b"k1"))).value is None
        await world.call(messages.KvPut("a", b"other", b""))
        assert (await world.call(messages.KvKeys("a", b"k"))).keys == [b"k1"]
        assert (await world.call(messages.KvDelete("a", b"k1"))).added
        assert not (await world.call(messages.KvDelete("a", b"k1"))).added

    in_world(form, tmp_path, story)


@both_forms
def test_facts_of_owner_and_gcs_meet_in_one_row(form, tmp_path):
    async def story(world: World) -> None:
        raylet = await world.add_raylet()
        spec = spec_of()
        key = spec.actor_id.hex()
        await world.call(messages.CreateActor(spec))
        await world.call(messages.AddFacts([Fact("actor", key, {"calls_done": 3, "state": "ALIVE"})]))
        await raylet.wait_for(PlaceActor)
        rows = {(f.kind, f.key): f.row for f in (await world.call(messages.GetFacts())).facts}
        assert (rows["actor", key]["calls_done"], rows["actor", key]["state"]) == (3, "PENDING_CREATION")
        assert rows["node", NODE.hex()]["resources_total"] == {"CPU": 4.0}
        await raylet.report_alive(world.channel, spec.actor_id)
        rows = {(f.kind, f.key): f.row for f in (await world.call(messages.GetFacts())).facts}
        assert (rows["actor", key]["calls_done"], rows["actor", key]["state"]) == (3, "ALIVE")

    in_world(form, tmp_path, story)


def test_raylets_are_told_when_somebody_looks_and_when_nobody_does(tmp_path):
    async def story(world: World) -> None:
        raylet = await world.add_raylet()
        await world.call(messages.GetFacts())
        assert (await raylet.wait_for(SetObserved))[0].active
        late = await world.add_raylet(b"node-b..")
        assert (await late.wait_for(SetObserved))[0].active
        world.clock.now_ms += 2_000
        await world.gcs._check_observers()
        assert not (await raylet.wait_for(SetObserved, 2))[1].active

    in_world("local-memory", tmp_path, story)


def test_outbox_of_an_unreachable_node_goes_on_in_order_when_it_answers(tmp_path):
    async def story(world: World) -> None:
        raylet = await world.add_raylet(address="far")
        raylet.reachable = False
        await world.call(messages.CreateActor(spec_of()))
        await world.call(messages.KillActor(spec_of().actor_id))
        await asyncio.sleep(0)
        assert raylet.calls == []
        raylet.reachable = True
        await world.call(messages.ReportNode(NODE, {"CPU": 10_000}))
        await raylet.wait_for(StopActor)
        assert [type(c).__name__ for c in raylet.calls if not type(c).__name__.startswith("Get")] == [
            "PlaceActor",
            "StopActor",
        ]

    in_world("local-memory", tmp_path, story)


def test_silent_node_is_declared_dead_and_its_actor_lives_again_elsewhere(tmp_path):
    async def story(world: World) -> None:
        first = await world.add_raylet(b"node-b..", address="far")
        spec = spec_of(max_restarts=1)
        await world.call(messages.CreateActor(spec))
        await first.wait_for(PlaceActor)
        await first.report_alive(world.channel, spec.actor_id)
        second = await world.add_raylet()
        first.reachable = False
        for _ in range(10):
            world.clock.now_ms += 1_000
            await world.gcs._decide_nodes()
        (placed,) = await second.wait_for(PlaceActor)
        assert placed.incarnation == 1
        nodes = {node.node_id: node for node in (await world.call(messages.ListNodes())).nodes}
        assert not nodes[b"node-b.."].alive
        with pytest.raises(RemoteError) as caught:
            await first.register(world.channel)
        assert caught.value.code == "NodeDiedError"
        with pytest.raises(RemoteError) as caught:
            await world.call(messages.ReportNode(b"node-b.."))
        assert caught.value.code == "UnknownNode"

    in_world("local-memory", tmp_path, story)


def test_stop_tells_remote_nodes_and_the_process(tmp_path):
    async def story(world: World) -> None:
        raylet = await world.add_raylet(address="far")
        stopped = asyncio.get_running_loop().create_future()
        world.gcs.on_stop = stopped.set_result
        await world.call(messages.StopCluster("enough"))
        assert await stopped == "enough"
        assert (await raylet.wait_for(StopNode))[0].reason == "enough"

    in_world("local-memory", tmp_path, story)


def test_gcs_that_restarts_on_its_file_knows_names_actors_keys_and_finds_the_dead(tmp_path):
    async def main() -> None:
        storage = SqliteStorage(tmp_path / "gcs.sqlite")
        world = World(storage)
        await world.gcs.start()
        raylet = await world.add_raylet(address="far")
        for spec in (spec_of(1, name="kept"), spec_of(2, max_restarts=1), spec_of(3, placement={"GPU": 10_000})):
            await world.call(messages.CreateActor(spec))
        await raylet.wait_for(PlaceActor, 2)
        for number in (1, 2):
            await raylet.report_alive(world.channel, spec_of(number).actor_id)
        await world.call(messages.KvPut("ns", b"k", b"v"))
        await world.gcs.close()
        storage.close()

        del raylet.actors[spec_of(2).actor_id]
        storage = SqliteStorage(tmp_path / "gcs.sqlite")
        again = World(storage)
        again.gcs.cluster_id = b"another."
        again.raylets[NODE] = raylet
        await again.gcs.start()
        with pytest.raises(RemoteError, match="register again"):
            await again.call(messages.ReportNode(NODE))
        await raylet.register(again.channel)
        await again.call(messages.ReportNode(NODE))
        assert (await again.call(messages.GetNamedActor("kept", "ns"))).spec.actor_id == spec_of(1).actor_id
        assert (await again.call(messages.KvGet("ns", b"k"))).value == b"v"
        placed = await raylet.wait_for(PlaceActor, 3)
        assert (placed[2].spec.actor_id, placed[2].incarnation) == (spec_of(2).actor_id, 1)
        assert (await again.actor(spec_of(1).actor_id)).state == ACTOR_ALIVE
        status = await again.call(messages.ClusterStatus())
        assert status.cluster_id == b"cluster."
        assert "needs {GPU: 1}" in status.waiting[0]
        await again.gcs.close()
        storage.close()

    asyncio.run(asyncio.wait_for(main(), 10))


def test_wrong_token_is_refused_before_anything_is_read(tmp_path):
    async def main() -> None:
        world = World(MemoryStorage())
        server = await serve_grpc(world.gcs, "Gcs", "127.0.0.1:0", TOKEN)
        stranger = GrpcChannel("Gcs", server.address, b"x" * 32)
        with pytest.raises(RemoteError, match="refused the token"):
            await stranger.call("KvPut", messages.KvPut("a", b"k", b"v"))
        assert (await world.call(messages.KvGet("a", b"k"))).value is None
        await stranger.close()
        await server.stop()

    asyncio.run(main())


def test_channel_to_nobody_is_a_connection_error():
    async def main() -> None:
        channel = GrpcChannel("Gcs", "127.0.0.1:1", TOKEN, timeout_s=2)
        with pytest.raises(ConnectionError, match="did not answer ListNodes"):
            await channel.call("ListNodes", messages.ListNodes())
        await channel.close()

    asyncio.run(main())
