"""What the GCS does when its store takes nothing: it goes on, promises nothing, and writes later what it owes."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

import pytest

from raybook.base.facts import ACTOR_ALIVE, ACTOR_DEAD, GROUP_CREATED
from raybook.base.specs import Bundle, PlacementGroupSpec
from raybook.gcs import ledger as ledger_module
from raybook.gcs import records
from raybook.gcs.ledger import Ledger
from raybook.io.channel import RemoteError
from raybook.io.storage import META, StoreError, StoreLost, StoreTaken, Write
from raybook.protocol.messages import gcs as messages
from raybook.protocol.messages.node import PlaceActor, StopActor
from raybook.testing.failing_storage import FailingStorage
from tests.contracts.test_gcs_service import World, spec_of

FULL = "The store is full. Make room."


class Desk:
    """A ledger over a store that fails on demand; ``acted`` is what it acted upon, ``taken`` what it was told."""

    def __init__(self) -> None:
        self.storage = FailingStorage()
        self.acted: list[Any] = []
        self.taken: list[str] = []
        self.rows: list[Write] = []
        self.ledger = Ledger(self.storage, self.acted.extend, lambda: self.rows, self.taken.append)


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ledger_module, "RETRY_S", 0.005)


def put(key: bytes, value: bytes | None) -> Write:
    return Write("kv", key, value)


def run(story: Coroutine[Any, Any, None]) -> None:
    asyncio.run(asyncio.wait_for(story, 10))


async def until(holds: Any) -> None:
    while not holds():
        await asyncio.sleep(0.002)


def test_rows_are_written_before_anything_is_done() -> None:
    async def story() -> None:
        desk = Desk()
        steps = [desk.ledger.run([put(b"%d" % number, b"")], [number]) for number in range(3)]
        await asyncio.gather(*steps)
        assert desk.acted == [0, 1, 2]
        assert list(desk.storage.load("kv")) == [b"0", b"1", b"2"]
        await desk.ledger.close()

    run(story())


def test_full_store_stops_promises_and_nothing_else() -> None:
    async def story() -> None:
        desk = Desk()
        desk.storage.failure = StoreError(FULL)
        await desk.ledger.run([put(b"a", b"1")], ["act"])
        assert desk.acted == ["act"]
        with pytest.raises(RemoteError, match=r"The store is full\. Make room\. What runs goes on") as caught:
            desk.ledger.must_write()
        assert caught.value.code == "RaySystemError"
        await desk.ledger.close()

    run(story())


def test_what_is_owed_is_written_when_the_store_takes_it_the_latest_of_each_key() -> None:
    async def story() -> None:
        desk = Desk()
        await desk.ledger.run([put(b"a", b"0")], [])
        desk.storage.failure = StoreError(FULL)
        await desk.ledger.run([put(b"a", b"1"), put(b"b", b"1")], [])
        await desk.ledger.run([put(b"b", None)], [])
        desk.storage.failure = None
        await until(lambda: not desk.ledger.trouble)
        desk.ledger.must_write()
        assert desk.storage.load("kv") == {b"a": b"1"}
        assert desk.storage.batches[1] == [put(b"a", b"1"), put(b"b", None)]
        await desk.ledger.close()

    run(story())


def test_end_of_the_gcs_is_the_last_try() -> None:
    async def story() -> None:
        desk = Desk()
        desk.storage.failure = StoreError(FULL)
        await desk.ledger.run([put(b"a", b"1")], [])
        desk.storage.failure = None
        await desk.ledger.close()
        assert desk.storage.load("kv") == {b"a": b"1"}

    run(story())


def test_gcs_whose_store_was_taken_over_does_nothing_more() -> None:
    async def story() -> None:
        desk = Desk()
        desk.storage.failure = StoreTaken("another head has it")
        step = asyncio.ensure_future(desk.ledger.run([put(b"a", b"1")], ["act"]))
        await until(lambda: desk.taken)
        assert desk.taken == ["another head has it"]
        # Nor is anybody answered: the GCS that has the store will.
        assert desk.acted == [] and not step.done()
        await desk.ledger.close()
        step.cancel()

    run(story())


def test_store_that_lost_everything_gets_everything() -> None:
    class Forgetful(FailingStorage):
        async def write(self, writes: Any) -> None:
            if self.failure is not None:
                failure, self.failure = self.failure, None
                raise failure
            await super().write(writes)

    async def story() -> None:
        desk = Desk()
        storage = Forgetful()
        ledger = Ledger(storage, desk.acted.extend, lambda: [put(b"all", b"1")], desk.taken.append)
        storage.failure = StoreLost("it is empty")
        await ledger.run([put(b"a", b"1")], ["act"])
        assert storage.load("kv") == {b"all": b"1"} and desk.acted == ["act"] and not ledger.trouble
        await ledger.close()

    run(story())


# --- the service over it ----------------------------------------------------------------------------------------------


async def started() -> tuple[World, FailingStorage]:
    storage = FailingStorage()
    world = World(storage)
    await world.gcs.start()
    return world, storage


def test_key_that_cannot_be_written_is_refused_and_as_it_was() -> None:
    async def story() -> None:
        world, storage = await started()
        await world.call(messages.KvPut("ns", b"k", b"old"))
        storage.failure = StoreError(FULL)
        for request in (
            messages.KvPut("ns", b"k", b"new"),
            messages.KvPut("ns", b"n", b"1"),
            messages.KvDelete("ns", b"k"),
        ):
            with pytest.raises(RemoteError, match="Make room"):
                await world.call(request)
        assert (await world.call(messages.KvGet("ns", b"k"))).value == b"old"
        assert (await world.call(messages.KvKeys("ns", b""))).keys == [b"k"]
        assert FULL in (await world.call(messages.ClusterStatus())).waiting[0]
        storage.failure = None
        await until(lambda: not world.gcs._ledger.trouble)
        await world.call(messages.KvPut("ns", b"k", b"new"))
        await world.gcs.close()
        assert list(storage.load("kv").values()) == [b"new"]

    run(story())


@pytest.mark.parametrize("known", [False, True], ids=["found out by this one", "known before"])
def test_actor_that_cannot_be_written_is_refused_and_does_not_live(known: bool) -> None:
    async def story() -> None:
        world, storage = await started()
        raylet = await world.add_raylet(address="far")
        await world.call(messages.CreateActor(spec_of(1, name="old")))
        await raylet.wait_for(PlaceActor)
        await raylet.report_alive(world.channel, spec_of(1).actor_id)
        storage.failure = StoreError(FULL)
        if known:
            await world.gcs._ledger.run([put(b"k", b"v")], ())
        with pytest.raises(RemoteError, match="Make room"):
            await world.call(messages.CreateActor(spec_of(2, name="new")))
        dead = await world.actor(spec_of(2).actor_id)
        assert (dead.state, FULL in dead.death) == (ACTOR_DEAD, True)
        stops = await raylet.wait_for(StopActor)
        assert [stop.actor_id for stop in stops] == [spec_of(2).actor_id]
        # Those that live are not touched, nor is a creation that is repeated after a lost answer.
        await world.call(messages.CreateActor(spec_of(1, name="old")))
        assert (await world.actor(spec_of(1).actor_id)).state == ACTOR_ALIVE
        storage.failure = None
        await until(lambda: not world.gcs._ledger.trouble)
        await world.call(messages.CreateActor(spec_of(3, name="new")))
        await world.gcs.close()

    run(story())


def test_group_that_cannot_be_written_is_refused_and_holds_nothing() -> None:
    async def story() -> None:
        world, storage = await started()
        await world.add_raylet(address="far")
        storage.failure = StoreError(FULL)
        group = PlacementGroupSpec(b"group1..", b"job.....", [Bundle({"CPU": 10_000})])
        with pytest.raises(RemoteError, match="Make room"):
            await world.call(messages.CreatePlacementGroup(group))
        info = (await world.call(messages.GetPlacementGroup(b"group1.."))).group
        assert info.state != GROUP_CREATED and FULL in info.death
        await world.gcs.close()

    run(story())


def test_everything_can_be_read_back() -> None:
    """What a store that lost all is given makes the same GCS as the rows it had."""

    async def story() -> None:
        world, storage = await started()
        raylet = await world.add_raylet(address="far")
        await world.call(messages.CreateActor(spec_of(1, name="one")))
        await world.call(messages.CreateActor(spec_of(2, placement={"GPU": 10_000})))
        await raylet.wait_for(PlaceActor)
        await raylet.report_alive(world.channel, spec_of(1).actor_id)
        await world.call(messages.KvPut("ns", b"k", b"v"))
        group = PlacementGroupSpec(b"group1..", b"job.....", [Bundle({"CPU": 10_000})])
        await world.call(messages.CreatePlacementGroup(group))
        await until(lambda: world.gcs._groups.table.info(b"group1..").state == GROUP_CREATED)
        written = FailingStorage()
        await written.write(world.gcs._everything())
        assert written._tables == storage._tables
        assert records.SCHEMA_KEY in written.load(META)
        await world.gcs.close()

    run(story())


def test_store_of_a_newer_raybook_is_refused_and_not_touched() -> None:
    async def story() -> None:
        storage = FailingStorage()
        await storage.write([Write(META, records.SCHEMA_KEY, b"7"), Write("actors", b"a", b"\xff")])
        before = {table: dict(rows) for table, rows in storage._tables.items()}
        with pytest.raises(StoreError, match=r"written in schema 7, and this raybook knows schemas up to 1"):
            await World(storage).gcs.start()
        assert storage._tables == before

    run(story())


def test_row_that_cannot_be_read_is_named_by_its_table() -> None:
    async def story() -> None:
        storage = FailingStorage()
        await storage.write([Write("jobs", b"a", b"\xff\xff")])
        with pytest.raises(StoreError, match="a row in table jobs that cannot be read"):
            await World(storage).gcs.start()

    run(story())
