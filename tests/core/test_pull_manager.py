"""Pull manager, scenes: copies of other nodes' objects."""

from __future__ import annotations

import random

import pytest

from raybook.base.specs import Location
from raybook.core.node import pull_events as pe
from raybook.core.node.pull_manager import FULL, RELAYS_MAX, PullManager

READER, OTHER = b"reader--", b"other---"
FAR = b"node-b--"


class Scene:
    def __init__(self, in_flight_bytes_max: int = 100) -> None:
        self.machine = PullManager(in_flight_bytes_max)

    def tell(self, *events) -> list:
        effects = self.machine.handle(events)
        self.machine.check_invariants()
        return effects

    def want(self, key: bytes, size: int = 10, client: bytes = READER, request: int = 1) -> list:
        return self.tell(pe.FetchWanted(client, request, key, Location(FAR, 0, size)))

    def bring(self, key: bytes, size: int = 10, client: bytes = READER, offset: int = 64) -> list:
        self.want(key, size, client)
        self.tell(pe.RoomGranted(key, offset))
        return self.tell(pe.TransferEnded(key))

    def end(self, key: bytes, offset: int = 64) -> list[bytes]:
        """A transfer that has begun ends well; the objects that begin by that."""
        self.tell(pe.RoomGranted(key, offset))
        return begun(self.tell(pe.TransferEnded(key)))


def begun(effects: list) -> list[bytes]:
    return [effect.object_id for effect in effects if isinstance(effect, pe.AllocateCopy)]


def test_a_fetch_finds_room_moves_the_bytes_and_tells_the_reader():
    scene = Scene()
    assert scene.want(b"x") == [pe.AllocateCopy(b"x", 10)]
    assert scene.tell(pe.RoomGranted(b"x", 64)) == [pe.StartTransfer(b"x", Location(FAR, 0, 10), 64)]
    assert scene.tell(pe.TransferEnded(b"x")) == [pe.Fetched(READER, 1, 64)]


def test_one_transfer_serves_all_readers():
    scene = Scene()
    scene.want(b"x", client=READER, request=1)
    assert scene.want(b"x", client=OTHER, request=7) == []
    scene.tell(pe.RoomGranted(b"x", 64))
    assert scene.tell(pe.TransferEnded(b"x")) == [pe.Fetched(READER, 1, 64), pe.Fetched(OTHER, 7, 64)]
    assert scene.want(b"x", client=OTHER, request=8) == [pe.Fetched(OTHER, 8, 64)]
    assert scene.machine.statistics()["pulled"] == 1


def test_a_dead_reader_uses_nothing():
    scene = Scene()
    scene.bring(b"x")
    scene.tell(pe.ReaderGone(READER))
    assert scene.tell(pe.RoomWanted(1, 1)) == [pe.FreeCopy(64), pe.RoomAnswered(1)]


def test_without_room_the_readers_hear_why_and_what_holds_the_room():
    scene = Scene()
    scene.bring(b"held", offset=128)
    scene.want(b"x")
    (told,) = scene.tell(pe.RoomGranted(b"x", -1, "It is full."))
    assert (told.client, told.offset, told.code) == (READER, -1, FULL)
    assert told.reason.startswith("It is full. One copy of another node's object")


def test_a_transfer_that_failed_frees_its_room_and_may_be_tried_again():
    scene = Scene()
    scene.want(b"x")
    scene.tell(pe.RoomGranted(b"x", 64))
    assert scene.tell(pe.TransferEnded(b"x", "gone")) == [pe.Fetched(READER, 1, -1, "gone"), pe.FreeCopy(64)]
    assert scene.want(b"x") == [pe.AllocateCopy(b"x", 10)]


def test_bytes_that_nobody_waited_for_any_more_are_not_kept():
    """With its last reader went what kept the source in its place."""
    scene = Scene()
    scene.want(b"x")
    scene.tell(pe.RoomGranted(b"x", 64))
    scene.tell(pe.ReaderGone(READER))
    assert scene.tell(pe.TransferEnded(b"x")) == [pe.FreeCopy(64)]
    assert scene.machine.statistics()["copies"] == 0


# How much may be on its way.


def test_bytes_under_way_are_bounded_and_a_larger_one_goes_alone():
    scene = Scene(in_flight_bytes_max=100)
    assert begun(scene.want(b"large", 500)) == [b"large"]
    assert begun(scene.want(b"next", 50)) == []
    assert scene.end(b"large") == [b"next"]


def test_whoever_has_to_wait_is_told_why():
    scene = Scene(in_flight_bytes_max=10 << 20)
    scene.want(b"first", 10 << 20)
    (delayed,) = scene.want(b"second", 5 << 20, OTHER, 3)
    assert (delayed.client, delayed.request_id) == (OTHER, 3)
    assert "1 other objects (10.0 MiB) are on their way to this node, where 10.0 MiB may be at once" in delayed.reason
    assert "waits to be fetched (5.0 MiB from node" in scene.machine.story(b"second")


def test_small_ones_pass_a_large_one_that_does_not_fit():
    scene = Scene(in_flight_bytes_max=100)
    scene.want(b"first", 60)
    assert begun(scene.want(b"large", 80)) == []
    assert begun(scene.want(b"small", 5)) == [b"small"]


def test_what_passes_a_large_one_is_bounded_so_that_its_turn_comes():
    scene = Scene(in_flight_bytes_max=100)
    scene.want(b"first", 90)
    scene.want(b"large", 98)
    passed = 0
    for number in range(40):
        key = b"small-%d" % number
        if begun(scene.want(key, 5)) == [key]:
            scene.end(key, 1000 + number)
            passed += 1
    assert passed == 20, "As much passes as may be under way at once."
    assert scene.end(b"first", 1) == [b"large"]
    assert scene.end(b"large", 2)[0] == b"small-20", "Then those that waited go on in their order."


def test_a_queued_fetch_of_a_dead_reader_is_forgotten():
    scene = Scene(in_flight_bytes_max=10)
    scene.want(b"x", client=OTHER)
    scene.want(b"y")
    scene.tell(pe.ReaderGone(READER))
    assert scene.end(b"x") == []
    assert scene.machine.story(b"y") == "There is no copy of it on this node."


# Room for others.


def test_the_copy_used_longest_ago_goes_first():
    scene = Scene()
    for number, key in enumerate((b"x", b"y", b"z")):
        scene.bring(key, offset=64 * number)
    scene.want(b"x")
    scene.tell(pe.CopiesDropped(READER, [b"x", b"y", b"z"]))
    assert scene.tell(pe.RoomWanted(15, 1)) == [pe.FreeCopy(64), pe.FreeCopy(128), pe.RoomAnswered(1)]


def test_a_copy_in_use_is_asked_back_when_the_others_are_not_enough():
    scene = Scene()
    scene.bring(b"x", offset=64)
    scene.bring(b"y", offset=128)
    scene.tell(pe.CopiesDropped(READER, [b"y"]))
    assert scene.tell(pe.RoomWanted(20, 7)) == [pe.FreeCopy(128), pe.RecallCopies(READER, 7)]
    assert scene.tell(pe.CopiesDropped(READER, [b"x"])) == []
    assert scene.tell(pe.CopiesRecalled(READER, 7)) == [pe.FreeCopy(64), pe.RoomAnswered(7)]


def test_a_copy_that_is_looked_at_stays_and_who_wants_room_is_told():
    scene = Scene()
    scene.bring(b"x")
    scene.tell(pe.RoomWanted(1_000, 7))
    assert scene.tell(pe.CopiesRecalled(READER, 7)) == [pe.RoomAnswered(7)]
    assert scene.want(b"x", client=OTHER) == [pe.Fetched(OTHER, 1, 64)]


def test_a_recall_does_not_wait_for_the_dead():
    scene = Scene()
    scene.bring(b"x")
    scene.tell(pe.RoomWanted(1_000, 7))
    assert scene.tell(pe.ReaderGone(READER)) == [pe.FreeCopy(64), pe.RoomAnswered(7)]


# Copies for other nodes.


def test_a_copy_is_lent_as_it_comes_and_stays_until_that_is_over():
    scene = Scene()
    scene.want(b"x")
    scene.tell(pe.RoomGranted(b"x", 64))
    assert scene.tell(pe.CopyWanted(1, b"x", 10)) == [pe.Lend(1, b"x", 64, is_moving=True)]
    scene.tell(pe.TransferEnded(b"x"), pe.CopiesDropped(READER, [b"x"]))
    assert scene.tell(pe.CopyWanted(2, b"x", 10)) == [pe.Lend(2, b"x", 64, is_moving=False)]
    assert scene.tell(pe.LendingEnded(1), pe.RoomWanted(10, 1)) == [pe.RoomAnswered(1)]
    assert scene.tell(pe.LendingEnded(2), pe.RoomWanted(10, 2)) == [pe.FreeCopy(64), pe.RoomAnswered(2)]


def test_the_room_of_a_transfer_that_failed_is_free_when_nobody_is_sent_it_any_more():
    scene = Scene()
    scene.want(b"x")
    scene.tell(pe.RoomGranted(b"x", 64), pe.CopyWanted(1, b"x", 10))
    assert scene.tell(pe.TransferEnded(b"x", "gone")) == [pe.Fetched(READER, 1, -1, "gone")]
    assert scene.tell(pe.LendingEnded(1)) == [pe.FreeCopy(64)]


@pytest.mark.parametrize("size", [9, 11])
def test_what_is_not_here_or_another_size_is_not_lent(size: int):
    scene = Scene()
    scene.bring(b"x")
    (refused,) = scene.tell(pe.CopyWanted(1, b"x", size))
    assert refused == pe.RefuseLending(1, "its copy here is gone")
    assert scene.tell(pe.CopyWanted(2, b"y", 10)) == [pe.RefuseLending(2, "its copy here is gone")]


def test_copies_that_are_not_whole_are_lent_to_a_bounded_number():
    """Each takes a thread that waits for another node; there must be others, or two nodes wait for each other."""
    scene = Scene()
    scene.want(b"x")
    scene.tell(pe.RoomGranted(b"x", 64))
    for number in range(RELAYS_MAX):
        assert isinstance(scene.tell(pe.CopyWanted(number, b"x", 10))[0], pe.Lend)
    assert isinstance(scene.tell(pe.CopyWanted(99, b"x", 10))[0], pe.RefuseLending)


# Whatever happens: readers get one answer, rooms are freed once, and in the end everything can be free.


class Chance:
    """Plays shell, store and clients by a seed."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.machine = PullManager(1_000)
        self.clients = [b"client-%d" % number for number in range(3)]
        self.waiting: dict[tuple[bytes, int], bytes] = {}
        self.has: dict[bytes, set[bytes]] = {client: set() for client in self.clients}
        self.allocating: dict[bytes, int] = {}
        self.moving: dict[bytes, int] = {}
        self.rooms: dict[int, int] = {}
        self.asked: list[tuple[bytes, int]] = []
        self.unanswered: set[int] = set()
        self.lent: dict[int, int] = {}
        self.next = 1

    def number(self) -> int:
        self.next += 1
        return self.next

    def tell(self, *events) -> None:
        for effect in self.machine.handle(events):
            if isinstance(effect, pe.AllocateCopy):
                self.allocating[effect.object_id] = effect.size
            elif isinstance(effect, pe.StartTransfer):
                self.moving[effect.object_id] = effect.offset
            elif isinstance(effect, pe.FreeCopy):
                assert effect.offset not in self.lent.values(), "a copy that is being sent was freed"
                del self.rooms[effect.offset]
            elif isinstance(effect, pe.Fetched):
                key = self.waiting.pop((effect.client, effect.request_id))
                if effect.offset >= 0:
                    assert effect.offset in self.rooms
                    self.has[effect.client].add(key)
            elif isinstance(effect, pe.RecallCopies):
                self.asked.append((effect.client, effect.recall_id))
            elif isinstance(effect, pe.RoomAnswered):
                self.unanswered.remove(effect.recall_id)
            elif isinstance(effect, pe.Lend):
                self.lent[effect.lending_id] = effect.offset
        self.machine.check_invariants()

    def step(self) -> None:
        draw = self.random
        what = draw.choice(["want", "want", "room", "end", "end", "drop", "recall", "answer", "lend", "lent", "die"])
        client = draw.choice(self.clients)
        if what == "want":
            key = b"object-%d" % draw.randrange(12)
            request = self.number()
            self.waiting[client, request] = key
            size = 40 * (1 + key[-1] % 40)
            self.tell(pe.FetchWanted(client, request, key, Location(FAR, 0, size)))
        elif what == "room" and self.allocating:
            self.grant()
        elif what == "end" and self.moving:
            self.finish()
        elif what == "drop" and self.has[client]:
            key = draw.choice(sorted(self.has[client]))
            self.has[client].discard(key)
            self.tell(pe.CopiesDropped(client, [key]))
        elif what == "recall":
            recall = self.number()
            self.unanswered.add(recall)
            self.tell(pe.RoomWanted(draw.randrange(2_000), recall))
        elif what == "answer" and self.asked:
            self.answer()
        elif what == "lend":
            self.tell(pe.CopyWanted(self.number(), b"object-%d" % draw.randrange(12), 40))
        elif what == "lent" and self.lent:
            self.give_back()
        elif what == "die" and draw.random() < 0.2:
            self.has[client].clear()
            self.waiting = {reader: key for reader, key in self.waiting.items() if reader[0] != client}
            self.asked = [asked for asked in self.asked if asked[0] != client]
            self.tell(pe.ReaderGone(client))

    def grant(self) -> None:
        key = self.random.choice(sorted(self.allocating))
        size = self.allocating.pop(key)
        offset = self.number() if self.random.random() < 0.8 else -1
        if offset >= 0:
            self.rooms[offset] = size
        self.tell(pe.RoomGranted(key, offset, "" if offset >= 0 else "full"))

    def finish(self) -> None:
        key = self.random.choice(sorted(self.moving))
        del self.moving[key]
        self.tell(pe.TransferEnded(key, "" if self.random.random() < 0.8 else "broken"))

    def answer(self) -> None:
        client, recall = self.asked.pop(0)
        dropped = sorted(key for key in self.has[client] if self.random.random() < 0.7)
        self.has[client].difference_update(dropped)
        self.tell(pe.CopiesDropped(client, dropped), pe.CopiesRecalled(client, recall))

    def give_back(self) -> None:
        lending = self.random.choice(sorted(self.lent))
        del self.lent[lending]
        self.tell(pe.LendingEnded(lending))


@pytest.mark.parametrize("seed", range(40))
def test_readers_are_answered_once_and_all_room_is_free_in_the_end(seed: int):
    world = Chance(seed)
    for _ in range(300):
        world.step()
    while world.allocating or world.moving:
        world.grant() if world.allocating else world.finish()
    assert not world.waiting, "a reader was not answered"
    while world.lent:
        world.give_back()
    while world.asked:
        world.answer()
    assert not world.unanswered, "somebody who wanted room was not answered"
    for client in world.clients:
        world.tell(pe.ReaderGone(client))
    world.unanswered.add(1)
    world.tell(pe.RoomWanted(1 << 40, 1))
    assert not world.rooms
