"""What raylets are told of the nodes, over a function call and over gRPC; and what the end of such a question says."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from raybook.io.rpc import GrpcChannel
from raybook.protocol.messages import gcs as messages
from tests.contracts.test_gcs_service import NODE, TOKEN, World, both_forms, in_world

OTHER = b"node-b.."
LONG_MS = 10_000


async def watch(world: World, last: messages.NodesDelta | None = None, **fields: object) -> messages.NodesDelta:
    epoch, since = (b"", 0) if last is None else (last.epoch, last.version)
    delta = await world.call(messages.WatchNodes(NODE, epoch, since, **fields))
    assert isinstance(delta, messages.NodesDelta)
    return delta


@both_forms
def test_a_raylet_is_told_everything_first_and_then_what_changes(form: str, tmp_path: Path):
    async def story(world: World) -> None:
        await world.add_raylet()
        first = await watch(world)
        assert first.reset and [node.node_id for node in first.nodes] == [NODE]
        await world.add_raylet(OTHER)
        second = await watch(world, first)
        assert not second.reset and [node.node_id for node in second.nodes] == [OTHER]
        third = await watch(world, second)
        assert (third.nodes, third.version, third.since) == ([], second.version, second.version)

    in_world(form, tmp_path, story)


@both_forms
def test_a_question_is_held_back_until_somebody_joins(form: str, tmp_path: Path):
    async def story(world: World) -> None:
        await world.add_raylet()
        first = await watch(world)
        asking = asyncio.ensure_future(watch(world, first, hold_ms=LONG_MS))
        await world.call(messages.ReportNode(NODE, {"CPU": 10_000}))
        assert not asking.done()
        await world.add_raylet(OTHER)
        assert [node.node_id for node in (await asking).nodes] == [OTHER]

    in_world(form, tmp_path, story)


@both_forms
def test_amounts_are_told_to_those_who_ask_and_only_when_they_change(form: str, tmp_path: Path):
    async def story(world: World) -> None:
        await world.add_raylet(cpus=4)
        first = await watch(world, amounts=True)
        await world.call(messages.ReportNode(NODE, {"CPU": 40_000}))
        assert (await watch(world, first, amounts=True)).amounts == []
        await world.call(messages.ReportNode(NODE, {"CPU": 10_000}))
        assert (await watch(world, first)).amounts == []
        (row,) = (await watch(world, first, amounts=True)).amounts
        assert (row.node_id, row.available) == (NODE, {"CPU": 10_000})

    in_world(form, tmp_path, story)


@both_forms
def test_who_names_another_gcs_is_told_everything(form: str, tmp_path: Path):
    async def story(world: World) -> None:
        await world.add_raylet()
        delta = await world.call(messages.WatchNodes(NODE, b"before..", 7_000, hold_ms=LONG_MS))
        assert delta.reset and [node.node_id for node in delta.nodes] == [NODE]

    in_world(form, tmp_path, story)


@pytest.mark.slow
def test_a_node_whose_question_breaks_off_and_whose_port_is_shut_is_dead_at_once(tmp_path: Path):
    async def story(world: World) -> None:
        listener = await asyncio.start_server(lambda reader, writer: writer.close(), "127.0.0.1", 0)
        port = listener.sockets[0].getsockname()[1]
        await world.add_raylet(address=f"127.0.0.1:{port}")
        await world.add_raylet(OTHER)
        mine = GrpcChannel("Gcs", world.channel._address, TOKEN)
        first = await watch(world)
        seen = await watch(world, first)
        asking = asyncio.ensure_future(
            mine.call("WatchNodes", messages.WatchNodes(NODE, seen.epoch, seen.version, LONG_MS))
        )
        other = asyncio.ensure_future(watch(world, seen, hold_ms=LONG_MS))
        await asyncio.sleep(0.1)
        listener.close()
        await listener.wait_closed()
        asking.cancel()
        await mine.close()
        (dead,) = (await other).nodes
        assert (dead.node_id, dead.alive) == (NODE, False) and "nobody listens" in dead.death_reason

    in_world("grpc-sqlite", tmp_path, story)
