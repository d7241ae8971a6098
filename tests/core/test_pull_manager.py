"""Pull manager, scenes: copies of other nodes' objects."""

from __future__ import annotations

from raybook.base.specs import Location
from raybook.core.node import pull_manager as pm

READER, OTHER = b"reader--", b"other---"
FAR = b"node-b--"


class Scene:
    def __init__(self, in_flight_bytes_max: int = 100) -> None:
        self.machine = pm.PullManager(in_flight_bytes_max)

    def tell(self, *events) -> list:
        effects = self.machine.handle(events)
        self.machine.check_invariants()
        return effects

    def want(self, key: bytes, size: int = 10, client: bytes = READER, request: int = 1) -> list:
        return self.tell(pm.FetchWanted(client, request, key, Location(FAR, 0, size)))

    def bring(self, key: bytes, size: int = 10, client: bytes = READER, offset: int = 64) -> list:
        self.want(key, size, client)
        self.tell(pm.RoomGranted(key, offset))
        return self.tell(pm.TransferEnded(key))


def test_a_fetch_finds_room_moves_the_bytes_and_tells_the_reader():
    scene = Scene()
    assert scene.want(b"x") == [pm.AllocateCopy(b"x", 10)]
    assert scene.tell(pm.RoomGranted(b"x", 64)) == [pm.StartTransfer(b"x", Location(FAR, 0, 10), 64)]
    assert scene.tell(pm.TransferEnded(b"x")) == [pm.Fetched(READER, 1, 64)]


def test_one_transfer_serves_all_readers():
    scene = Scene()
    scene.want(b"x", client=READER, request=1)
    assert scene.want(b"x", client=OTHER, request=7) == []
    scene.tell(pm.RoomGranted(b"x", 64))
    assert scene.tell(pm.TransferEnded(b"x")) == [pm.Fetched(READER, 1, 64), pm.Fetched(OTHER, 7, 64)]
    assert scene.want(b"x", client=OTHER, request=8) == [pm.Fetched(OTHER, 8, 64)]
    assert scene.machine.statistics()["pulled"] == 1


def test_a_copy_in_use_stays_and_one_that_was_dropped_goes_when_room_is_wanted():
    scene = Scene()
    scene.bring(b"x", offset=64)
    scene.bring(b"y", offset=128)
    scene.tell(pm.CopiesDropped(READER, [b"y"]))
    assert scene.tell(pm.RoomWanted(1_000)) == [pm.FreeCopy(128)]


def test_the_copy_used_longest_ago_goes_first():
    scene = Scene()
    for number, key in enumerate((b"x", b"y", b"z")):
        scene.bring(key, offset=64 * number)
    scene.want(b"x")
    scene.tell(pm.CopiesDropped(READER, [b"x", b"y", b"z"]))
    assert scene.tell(pm.RoomWanted(15)) == [pm.FreeCopy(64), pm.FreeCopy(128)]


def test_a_dead_reader_uses_nothing():
    scene = Scene()
    scene.bring(b"x")
    scene.tell(pm.ReaderGone(READER))
    assert scene.tell(pm.RoomWanted(1)) == [pm.FreeCopy(64)]


def test_bytes_under_way_are_bounded_and_a_larger_one_goes_alone():
    scene = Scene(in_flight_bytes_max=100)
    assert scene.want(b"large", 500) == [pm.AllocateCopy(b"large", 500)]
    assert scene.want(b"small", 10) == []
    scene.tell(pm.RoomGranted(b"large", 0))
    assert scene.tell(pm.TransferEnded(b"large")) == [pm.Fetched(READER, 1, 0), pm.AllocateCopy(b"small", 10)]


def test_without_room_the_readers_hear_why():
    scene = Scene()
    scene.want(b"x")
    assert scene.tell(pm.RoomGranted(b"x", -1, "full")) == [pm.Fetched(READER, 1, -1, "full")]


def test_a_transfer_that_failed_frees_its_room_and_may_be_tried_again():
    scene = Scene()
    scene.want(b"x")
    scene.tell(pm.RoomGranted(b"x", 64))
    assert scene.tell(pm.TransferEnded(b"x", "gone")) == [pm.FreeCopy(64), pm.Fetched(READER, 1, -1, "gone")]
    assert scene.want(b"x") == [pm.AllocateCopy(b"x", 10)]


def test_bytes_that_nobody_waited_for_any_more_are_not_kept():
    """With its last reader went what kept the source in its place."""
    scene = Scene()
    scene.want(b"x")
    scene.tell(pm.RoomGranted(b"x", 64))
    scene.tell(pm.ReaderGone(READER))
    assert scene.tell(pm.TransferEnded(b"x")) == [pm.FreeCopy(64)]
    assert scene.machine.statistics()["copies"] == 0


def test_a_queued_fetch_of_a_dead_reader_is_forgotten():
    scene = Scene(in_flight_bytes_max=10)
    scene.want(b"x", client=OTHER)
    scene.want(b"y")
    scene.tell(pm.ReaderGone(READER))
    scene.tell(pm.RoomGranted(b"x", 0))
    assert scene.tell(pm.TransferEnded(b"x")) == [pm.Fetched(OTHER, 1, 0)]
