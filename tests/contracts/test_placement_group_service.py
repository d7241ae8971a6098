"""The GCS's placement group methods, over a function call and over gRPC, in memory and on SQLite."""

from __future__ import annotations

import asyncio

import pytest

from raybook.base.facts import GROUP_CREATED, GROUP_PENDING, GROUP_REMOVED, GROUP_RESCHEDULING
from raybook.base.resources import shape_of
from raybook.base.specs import Bundle, Endpoint, PlacementGroupSpec
from raybook.base.strategies import GroupTarget
from raybook.io.channel import LocalChannel, RemoteError
from raybook.io.sqlite_storage import SqliteStorage
from raybook.protocol.messages import gcs as messages
from raybook.protocol.messages.node import (
    CommitBundles,
    PlaceActor,
    PrepareBundles,
    PrepareBundlesReply,
    ReturnBundles,
    StopActor,
)
from raybook.testing.fake_raylet import FakeRaylet
from tests.contracts.test_gcs_service import NODE, World, both_forms, in_world, spec_of

OTHER = b"node-b.."


def group_of(number: int = 1, *shapes: dict, **fields) -> PlacementGroupSpec:
    bundles = [Bundle(shape_of(shape)) for shape in shapes or ({"CPU": 1},)]
    return PlacementGroupSpec(b"group%011d" % number, b"job.....", bundles, namespace="ns", **fields)


async def create(world: World, spec: PlacementGroupSpec) -> str:
    return (await world.call(messages.CreatePlacementGroup(spec))).group.state


async def wait(world: World, spec: PlacementGroupSpec, timeout_ms: int = 5_000) -> str:
    return (await world.call(messages.WaitPlacementGroup(spec.group_id, timeout_ms))).group.state


async def info(world: World, spec: PlacementGroupSpec) -> messages.PlacementGroupInfo:
    return (await world.call(messages.GetPlacementGroup(spec.group_id))).group


@both_forms
def test_group_is_reserved_by_one_message_and_found_by_name(form, tmp_path):
    async def story(world: World) -> None:
        raylet = await world.add_raylet()
        spec = group_of(1, {"CPU": 1}, {"CPU": 2}, name="x")
        await create(world, spec)
        assert await wait(world, spec) == GROUP_CREATED
        (prepared,) = raylet.received(PrepareBundles)
        assert prepared.commit and [(b.index, b.shape) for b in prepared.bundles] == [
            (0, shape_of({"CPU": 1})),
            (1, shape_of({"CPU": 2})),
        ]
        found = (await world.call(messages.GetPlacementGroup(name="x", namespace="ns"))).group
        assert found.spec == spec and found.nodes == [NODE, NODE]
        assert (await world.call(messages.GetPlacementGroup(name="x", namespace="other"))).group is None
        assert len((await world.call(messages.GetPlacementGroups())).groups) == 1

    in_world(form, tmp_path, story)


@both_forms
def test_name_that_is_taken_is_a_value_error(form, tmp_path):
    async def story(world: World) -> None:
        await create(world, group_of(1, name="x"))
        with pytest.raises(RemoteError, match="'x' exists already") as caught:
            await create(world, group_of(2, name="x"))
        assert caught.value.code == "ValueError"

    in_world(form, tmp_path, story)


@both_forms
def test_bundles_on_two_nodes_are_prepared_and_then_committed(form, tmp_path):
    async def story(world: World) -> None:
        raylets = [await world.add_raylet(NODE), await world.add_raylet(OTHER)]
        spec = group_of(1, {"CPU": 1}, {"CPU": 1}, strategy="STRICT_SPREAD")
        await create(world, spec)
        assert await wait(world, spec) == GROUP_CREATED
        for raylet in raylets:
            await raylet.wait_for(CommitBundles)
            assert not raylet.received(PrepareBundles)[0].commit

    in_world(form, tmp_path, story)


@both_forms
def test_waiting_group_says_why_and_is_answered_when_it_is_created(form, tmp_path):
    async def story(world: World) -> None:
        spec = group_of(1, {"CPU": 3})
        assert await create(world, spec) == GROUP_PENDING
        assert await wait(world, spec, 10) == GROUP_PENDING
        status = await world.call(messages.ClusterStatus())
        assert "no room for 1 × {CPU: 3}" in status.waiting[0]
        waiting = asyncio.ensure_future(wait(world, spec))
        await world.add_raylet()
        assert await waiting == GROUP_CREATED

    in_world(form, tmp_path, story)


@both_forms
def test_waiting_for_a_group_that_is_made_later_is_answered(form, tmp_path):
    async def story(world: World) -> None:
        await world.add_raylet()
        waiting = asyncio.ensure_future(wait(world, group_of()))
        await asyncio.sleep(0)
        await create(world, group_of())
        assert await waiting == GROUP_CREATED

    in_world(form, tmp_path, story)


@both_forms
def test_node_that_has_no_room_after_all_keeps_the_group_waiting_until_it_reports(form, tmp_path):
    async def story(world: World) -> None:
        raylet = await world.add_raylet()
        raylet.refusal = "something else was faster"
        spec = group_of()
        await create(world, spec)
        await raylet.wait_for(ReturnBundles)
        assert "something else was faster" in (await info(world, spec)).waiting
        raylet.refusal = ""
        await world.call(messages.ReportNode(NODE, shape_of({"CPU": 4})))
        assert await wait(world, spec) == GROUP_CREATED

    in_world(form, tmp_path, story)


@both_forms
def test_removed_group_is_returned_and_its_actors_end_with_it(form, tmp_path):
    async def story(world: World) -> None:
        raylet = await world.add_raylet()
        spec = group_of()
        await create(world, spec)
        actor = spec_of(strategy=GroupTarget(spec.group_id, 0).encode())
        await world.call(messages.CreateActor(actor))
        await raylet.wait_for(PlaceActor)
        await raylet.report_alive(world.channel, actor.actor_id)
        await world.call(messages.RemovePlacementGroup(spec.group_id, "enough"))
        (returned,) = await raylet.wait_for(ReturnBundles)
        assert returned.removed and returned.indices == [0]
        await raylet.wait_for(StopActor)
        row = await world.actor(actor.actor_id)
        assert (row.state, row.death_code) == ("DEAD", "ActorPlacementGroupRemoved") and "enough" in row.death
        assert (await info(world, spec)).state == GROUP_REMOVED

    in_world(form, tmp_path, story)


@both_forms
def test_actor_waits_for_its_group_and_is_placed_with_its_bundle(form, tmp_path):
    async def story(world: World) -> None:
        first = await world.add_raylet(NODE, cpus=1)
        spec = group_of(1, {"CPU": 1}, {"CPU": 1}, strategy="STRICT_SPREAD")
        await create(world, spec)
        actor = spec_of(strategy=GroupTarget(spec.group_id, 1).encode())
        await world.call(messages.CreateActor(actor))
        assert "is PENDING" in (await world.actor(actor.actor_id)).waiting
        second = await world.add_raylet(OTHER, cpus=1)
        assert await wait(world, spec) == GROUP_CREATED
        host = (await info(world, spec)).nodes[1]
        (placed,) = await (first if host == NODE else second).wait_for(PlaceActor)
        assert placed.spec.actor_id == actor.actor_id

    in_world(form, tmp_path, story)


@both_forms
def test_actor_of_a_bundle_that_is_not_there_is_dead_at_once(form, tmp_path):
    async def story(world: World) -> None:
        await world.add_raylet()
        await create(world, group_of())
        actor = spec_of(strategy=GroupTarget(group_of().group_id, 7).encode())
        await world.call(messages.CreateActor(actor))
        row = await world.actor(actor.actor_id)
        assert row.death_code == "ActorUnschedulableError" and "has no bundle 7" in row.death

    in_world(form, tmp_path, story)


@both_forms
def test_groups_end_with_their_job_and_with_the_actor_that_made_them(form, tmp_path):
    async def story(world: World) -> None:
        await world.add_raylet()
        await world.call(messages.RegisterJob(b"job.....", Endpoint(b"owner...", NODE, "unix:/o"), 4711))
        actor = spec_of(detached=True)
        await world.call(messages.CreateActor(actor))
        groups = [group_of(1), group_of(2, creator_actor=actor.actor_id), group_of(3, detached=True)]
        for spec in groups:
            await create(world, spec)
        await world.call(messages.FinishJob(b"job.....", "its driver left"))
        assert [await wait(world, spec) for spec in groups] == [GROUP_REMOVED, GROUP_CREATED, GROUP_CREATED]
        await world.call(messages.KillActor(actor.actor_id))
        assert await wait(world, groups[1], 0) == GROUP_REMOVED
        assert "the actor that made it is dead" in (await info(world, groups[1])).death

    in_world(form, tmp_path, story)


def test_gcs_that_comes_back_knows_its_groups_and_tries_again_what_was_under_way(tmp_path):
    async def main() -> None:
        storage = SqliteStorage(tmp_path / "gcs.sqlite")
        world = World(storage)
        await world.gcs.start()
        raylet = await world.add_raylet(NODE, cpus=4, address="raylet:1")
        await create(world, group_of(1, name="kept"))
        assert await wait(world, group_of(1)) == GROUP_CREATED
        raylet.reachable = False
        assert await create(world, group_of(2)) != GROUP_CREATED
        await world.gcs.close()
        raylet.reachable = True
        again = World(storage)
        again.raylets = world.raylets
        await again.gcs.start()
        kept = (await again.call(messages.GetPlacementGroup(name="kept", namespace="ns"))).group
        assert kept.state == GROUP_CREATED and kept.nodes == [NODE]
        await raylet.register(again.channel)
        assert await wait(again, group_of(2)) == GROUP_CREATED
        attempts = [call.attempt for call in raylet.received(PrepareBundles) if call.group_id == group_of(2).group_id]
        assert attempts[-1] == 2
        await again.gcs.close()
        storage.close()

    asyncio.run(asyncio.wait_for(main(), 10))


def test_group_of_a_lost_node_is_rescheduled_and_its_actor_follows(tmp_path):
    async def story(world: World) -> None:
        first, second = await world.add_raylet(NODE, 1, "raylet:1"), await world.add_raylet(OTHER, 1, "raylet:2")
        spec = group_of(1, {"CPU": 1}, {"CPU": 1}, strategy="STRICT_SPREAD")
        await create(world, spec)
        assert await wait(world, spec) == GROUP_CREATED
        index = (await info(world, spec)).nodes.index(OTHER)
        actor = spec_of(strategy=GroupTarget(spec.group_id, index).encode(), max_restarts=1)
        await world.call(messages.CreateActor(actor))
        await second.wait_for(PlaceActor)
        await second.report_alive(world.channel, actor.actor_id)
        second.reachable = False
        for _ in range(12):
            world.clock.now_ms += 1_000
            await world.call(messages.ReportNode(NODE, {}))
        assert (await info(world, spec)).state == GROUP_RESCHEDULING
        assert "RESCHEDULING" in (await world.actor(actor.actor_id)).waiting
        third = await world.add_raylet(b"node-c..", 1, "raylet:3")
        assert await wait(world, spec) == GROUP_CREATED
        assert (await third.wait_for(PlaceActor))[0].incarnation == 1
        assert not first.received(PlaceActor)

    in_world("local-memory", tmp_path, story)


def test_group_on_a_node_of_this_loop_is_created_inside_the_call_that_asks_for_it(tmp_path):
    class Node(FakeRaylet):
        async def call(self, method: str, request: object) -> object:
            return PrepareBundlesReply(True) if method == "PrepareBundles" else await super().call(method, request)

    async def story(world: World) -> None:
        node = Node(NODE)
        world.raylets[NODE] = LocalChannel(node)  # type: ignore[assignment]
        await node.register(world.channel)
        assert await create(world, group_of()) == GROUP_CREATED

    in_world("local-memory", tmp_path, story)
