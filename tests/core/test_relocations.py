"""Relocations: real owner machines of four processes, and threads that read while objects move, in any order.

The reference is the memory of the arena: what somebody looks at, or may still come to look at, is never freed; at the
end everything is, files too.
"""

from __future__ import annotations

import random

import msgspec
import pytest

from raybook.base.config import Config
from raybook.base.ids import IdFactory, owner_of, return_id
from raybook.base.specs import Assignment, Endpoint, Location, RefInfo, SchedulingClass, Value
from raybook.core.owner.owner import Owner
from raybook.core.owner.records import (
    FreeOwn,
    FromPeer,
    FromRaylet,
    FunctionStats,
    HoldRef,
    LookAgain,
    Pin,
    PushTo,
    Put,
    SealReply,
    TaskRecord,
    ToPeer,
    ToRaylet,
    Unpin,
    Wait,
)
from raybook.protocol.messages.raylet import LeaseGranted, NodeDraining, ObjectTaken, SetDemand, TakeObject
from raybook.protocol.messages.store import (
    DeleteSpilled,
    FreeRegions,
    ObjectsSpilled,
    SpillDone,
    SpilledItem,
    SpillObjects,
    SpillWanted,
)
from raybook.protocol.messages.worker import (
    ArgRef,
    MoveNoted,
    PushTasks,
    StealTasks,
    TaskReply,
    TasksBounced,
    TaskSpec,
    WorkerMessage,
)

NODE = b"node...."
ELSEWHERE = b"other..."
"""Where owners bring their objects when NODE drains."""
ONE_CPU = SchedulingClass((("CPU", 10_000),))
WIRE = msgspec.msgpack.Decoder(WorkerMessage)


class Reading:
    """A user thread between the first look at a location and the last at the value."""

    def __init__(self, key: bytes, value: Value, location: Location) -> None:
        self.key = key
        self.value = value
        self.location = location


class Process:
    """One driver or worker: its machine, what its threads have appended, and what they look at."""

    def __init__(self, number: int) -> None:
        self.id = b"proc%04d" % number
        self.address = f"unix:/{number}"
        self.owner = Owner(self.id, Config())
        self.ids = IdFactory(self.id)
        self.queue: list = []
        self.late: list = []
        self.refs: list[bytes] = []
        self.readings: list[Reading] = []
        self.views: list[tuple[bytes, int]] = []
        self.work: list[tuple[bytes, TaskSpec]] = []
        self.demand: dict[int, int] = {}


class World:
    """Four processes, their connections, the raylet's side of spilling, and the arena's regions."""

    def __init__(self) -> None:
        self.cleared: list[tuple[str, int, int]] = []
        self.processes = {process.id: process for process in map(Process, range(4))}
        self.all = list(self.processes.values())
        self.channels: dict[tuple[bytes, bytes], list[bytes]] = {}
        self.from_raylet: dict[bytes, list] = {process.id: [] for process in self.all}
        self.regions: dict[int, bytes] = {}
        self.files: dict[str, int] = {}
        self.chosen: list[tuple[bytes, SpillObjects]] = []
        self.rounds: dict[bytes, int] = {}
        self.locks: list[tuple[Process, Process, HoldRef]] = []
        self.next_offset = 0
        self.next_query = 1
        self.next_lease = 1
        self.spilled = 0
        self.looked_again = 0
        self.notes = 0
        self.now_ms = 0
        self.takes: list[tuple[Process, TakeObject]] = []
        self.junk: set[int] = set()
        """Places to which was brought what was not the object any more."""
        self.moved = 0

    def region(self, key: bytes, node_id: bytes = NODE) -> Location:
        self.next_offset += 4096
        self.regions[self.next_offset] = key
        return Location(node_id, self.next_offset, 1000)

    def freed(self, offset: int) -> None:
        assert offset in self.regions, "a region was freed twice"
        for process in self.all:
            assert all(place != offset for _, place in process.views), "bytes that somebody looks at were freed"
        del self.regions[offset]

    def step(self, process: Process, count: int = 99) -> None:
        """One batch of the process's I/O thread: some messages of each connection, then all its threads appended."""
        inbox = [FromRaylet(message) for message in self.take(self.from_raylet[process.id], count)]
        for (sender, receiver), channel in list(self.channels.items()):
            if receiver != process.id:
                continue
            for data in self.take(channel, count):
                message = WIRE.decode(data)
                if type(message) in process.owner.accepted:
                    inbox.append(FromPeer(sender, message))
                elif isinstance(message, PushTasks):
                    process.work += [(sender, spec) for spec in message.tasks]
                elif isinstance(message, StealTasks):
                    self.steal(process, sender, message.count)
        # What is appended while a batch runs is seen in the next one.
        inbox += process.late + process.queue[:count]
        process.late = process.queue[count:]
        process.queue = []
        self.now_ms += 1
        if process.owner.evacuation.next_deadline_ms(self.now_ms) is not None:
            process.owner.evacuation.tick(self.now_ms)
        self.execute(process, process.owner.handle(inbox, self.now_ms))
        process.owner.check_invariants()

    @staticmethod
    def take(channel: list, count: int) -> list:
        taken = channel[:count]
        del channel[:count]
        return taken

    def steal(self, process: Process, sender: bytes, count: int) -> None:
        taken = [item for item in process.work if item[0] == sender][-count:]
        process.work = [item for item in process.work if item not in taken]
        self.send(process.id, sender, TasksBounced([spec.task_id for _, spec in taken], 0, "stolen"))

    def send(self, sender: bytes, receiver: bytes, message: object) -> None:
        self.notes += isinstance(message, MoveNoted)
        # Encoded when it is sent, as in a process: what changes in a record later does not reach the other side.
        self.channels.setdefault((sender, receiver), []).append(msgspec.msgpack.encode(message))

    def execute(self, process: Process, effects: list) -> None:
        for effect in effects:
            if isinstance(effect, (ToPeer, PushTo)):
                self.send(process.id, effect.client_id, effect.message)
            elif isinstance(effect, FreeOwn):
                self.freed(effect.offset)
            elif isinstance(effect, ToRaylet):
                self.tell_raylet(process, effect.message)
            elif isinstance(effect, LookAgain):
                process.queue.append(b"nothing")

    def tell_raylet(self, process: Process, message: object) -> None:
        if isinstance(message, SetDemand):
            process.demand[message.class_key] = message.count
        elif isinstance(message, FreeRegions):
            for offset in message.offsets:
                assert owner_of(self.regions[offset]) == process.id, "somebody else's region was freed"
                self.freed(offset)
        elif isinstance(message, TakeObject):
            self.takes.append((process, message))
        elif isinstance(message, SpillObjects):
            self.chosen.append((process.id, message))
        elif isinstance(message, SpillDone):
            assert self.rounds.pop(process.id) == message.query_id, "a round was reported that is not on"
        elif isinstance(message, DeleteSpilled):
            for path in message.paths:
                assert path in self.files, "a file was deleted twice"
                del self.files[path]
            self.cleared += message.ranges

    # What threads do

    def put(self, process: Process) -> None:
        key = process.ids.put_id()
        process.queue.append(Put(key, Value(None, self.region(key)), True))
        process.refs.append(key)

    def lend(self, process: Process, other: Process, key: bytes) -> None:
        """A reference travels. The sender holds its own until the owner knows of the new holder."""
        owner = self.processes[owner_of(key)]
        hold = HoldRef(RefInfo(key, owner.address))
        other.queue.append(hold)
        other.refs.append(key)
        self.locks.append((process, other, hold))

    def is_locked(self, process: Process, key: bytes) -> bool:
        # A reply waits for the acknowledgements of owners in the same way (``Borrows.on_seal``).
        self.locks = [
            (sender, other, hold)
            for sender, other, hold in self.locks
            if any(event is hold for event in (*other.queue, *other.late))
            or owner_of(hold.ref.object_id) in other.owner.borrows._acks.values()
        ]
        if any(sender is process and hold.ref.object_id == key for sender, _, hold in self.locks):
            return True
        return any(reading.key == key for reading in process.readings)

    def start_reading(self, process: Process, key: bytes) -> None:
        value = process.owner.objects.values.get(key)
        if value is None:
            process.queue.append(Wait([key], 1, False, None, lambda: None))
        elif value.location is not None:
            process.readings.append(Reading(key, value, value.location))

    def go_on_reading(self, process: Process, reading: Reading) -> None:
        """The rest of ``Values.unpack``, which another thread may have interrupted before this."""
        process.readings.remove(reading)
        location = reading.location
        if location.spill_path:
            if location.spill_path not in self.files:
                assert reading.value.location is not location, "a file was deleted while its object lives"
                process.readings.append(Reading(reading.key, reading.value, reading.value.location))
            return
        process.queue.append(Pin(RefInfo(reading.key, self.processes[owner_of(reading.key)].address), location.offset))
        if reading.value.location is location:
            self.look(process, reading.key, location.offset)
            return
        self.looked_again += 1
        process.queue.append(Unpin(reading.key, location.offset))
        process.readings.append(Reading(reading.key, reading.value, reading.value.location))

    def look(self, process: Process, key: bytes, offset: int) -> None:
        assert self.regions.get(offset) == key, "a thread reads bytes that are not its object any more"
        process.views.append((key, offset))

    def drop_view(self, process: Process, index: int) -> None:
        key, offset = process.views.pop(index % len(process.views))
        process.queue.append(Unpin(key, offset))

    def submit(self, process: Process, key: bytes) -> None:
        task_id = process.ids.task_id()
        spec = TaskSpec(task_id, b"key", "f", b"")
        spec.slots = [ArgRef(RefInfo(key, self.processes[owner_of(key)].address))]
        record = TaskRecord(spec, FunctionStats("f"), ONE_CPU, held=[slot.ref for slot in spec.slots])
        process.queue.append(record)
        process.refs.append(return_id(task_id, 0))

    def grant(self, process: Process, worker: Process) -> None:
        for class_key, count in process.demand.items():
            if count:
                process.demand[class_key] -= 1
                endpoint = Endpoint(worker.id, NODE, worker.address)
                lease = LeaseGranted(class_key, self.next_lease, self.next_lease, endpoint, Assignment({}), 1)
                self.next_lease += 1
                self.from_raylet[process.id].append(lease)
                return

    def run(self, worker: Process, keeps: bool, large: bool) -> None:
        caller, spec = worker.work.pop(0)
        for slot in spec.slots or ():
            assert slot.value is not None, "a task was pushed without its argument"
            location = slot.value.location
            if location is None:
                continue
            if location.spill_path:
                assert location.spill_path in self.files, "an argument's file was deleted"
                continue
            worker.queue.append(Pin(slot.ref, location.offset))
            self.look(worker, slot.ref.object_id, location.offset)
            if not keeps:
                self.drop_view(worker, -1)
        key = return_id(spec.task_id, 0)
        value = Value(None, self.region(key)) if large else Value(b"small")
        worker.queue.append(SealReply(caller, TaskReply(spec.task_id, spec.attempt, [value], 10)))

    # What the raylet does

    def want_spilling(self, process: Process) -> None:
        if process.id not in self.rounds:
            self.rounds[process.id] = self.next_query
            self.from_raylet[process.id].append(SpillWanted(self.next_query, 2500, NODE))
            self.next_query += 1

    def drain(self) -> None:
        """The node is about to leave; everybody hears of it, some sooner than others."""
        for process in self.all:
            process.owner.evacuation.here = ELSEWHERE
            self.from_raylet[process.id].append(NodeDraining(NODE))

    def bring(self, index: int, succeeds: bool) -> None:
        """The raylet has copied an object, whatever lay at its place then."""
        process, message = self.takes.pop(index % len(self.takes))
        key, source = message.object_id, message.location
        if not succeeds:
            self.from_raylet[process.id].append(ObjectTaken(key, -1, "there is no room."))
            return
        is_there = source.spill_path in self.files if source.spill_path else self.regions.get(source.offset) == key
        place = self.region(key, ELSEWHERE)
        if not is_there:
            self.junk.add(place.offset)
        self.moved += 1
        self.from_raylet[process.id].append(ObjectTaken(key, place.offset))

    def write(self, index: int, succeeds: bool) -> None:
        client_id, message = self.chosen.pop(index % len(self.chosen))
        if not message.items:
            del self.rounds[client_id]
            return
        path = f"/spill/{message.query_id}" if succeeds else ""
        items = [SpilledItem(item.object_id, number, 0) for number, item in enumerate(message.items)] if path else []
        if path:
            self.files[path] = len(items)
            self.spilled += len(items)
        self.from_raylet[client_id].append(ObjectsSpilled(message.query_id, path, items))

    # Looking

    def check(self) -> None:
        """What lives is where its owner says."""
        for process in self.all:
            for key, value in process.owner.objects.values.items():
                location = value.location
                if location is None or owner_of(key) != process.id:
                    continue
                if location.spill_path:
                    assert location.spill_path in self.files, "a file was deleted while its object lives"
                else:
                    assert self.regions.get(location.offset) == key, "a region was freed while its object lives"
                    assert location.offset not in self.junk, "an object was moved that was not there any more"

    def end(self) -> None:
        """Everybody finishes what it has begun and lets go of everything."""
        for turn in range(200):
            self.now_ms += 2_000
            for process in self.all:
                while process.readings:
                    self.go_on_reading(process, process.readings[0])
                while process.views:
                    self.drop_view(process, 0)
                while process.work:
                    self.run(process, keeps=False, large=False)
                for key in [key for key in process.refs if not self.is_locked(process, key)]:
                    process.refs.remove(key)
                    process.queue.append(key)
                self.step(process)
                self.grant(process, self.all[(self.all.index(process) + 1 + turn % 3) % 4])
            while self.chosen:
                self.write(0, True)
            while self.takes:
                self.bring(0, True)
            if not (self.regions or self.files or self.rounds):
                return


class Chance:
    """Drives a world by one seed: who does what next, and how many messages arrive before it."""

    def __init__(self, seed: int) -> None:
        self.world = World()
        self.random = random.Random(seed)
        self.actions = [self.step] * 6 + [
            self.put, self.lend, self.drop, self.read, self.read, self.go_on, self.go_on, self.drop_view, self.submit,
            self.grant, self.grant, self.run, self.run, self.spill, self.spill, self.write, self.write,
        ]  # fmt: skip

    def go(self, actions: int) -> World:
        for _ in range(actions):
            self.random.choice(self.actions)()
            self.world.check()
        return self.world

    def process(self) -> Process:
        return self.random.choice(self.world.all)

    def held(self, process: Process) -> bytes | None:
        held = [key for key in process.refs if process.owner.references.is_held(key)]
        return self.random.choice(held) if held else None

    def step(self) -> None:
        self.world.step(self.process(), self.random.choice((1, 2, 99)))

    def put(self) -> None:
        self.world.put(self.process())

    def lend(self) -> None:
        process, other = self.random.sample(self.world.all, 2)
        key = self.held(process)
        if key is not None:
            self.world.lend(process, other, key)

    def drop(self) -> None:
        process = self.process()
        key = self.held(process)
        if key is not None and not self.world.is_locked(process, key):
            process.refs.remove(key)
            process.queue.append(key)

    def read(self) -> None:
        process = self.process()
        key = self.held(process)
        if key is not None:
            self.world.start_reading(process, key)

    def go_on(self) -> None:
        process = self.process()
        if process.readings:
            self.world.go_on_reading(process, self.random.choice(process.readings))

    def drop_view(self) -> None:
        process = self.process()
        if process.views:
            self.world.drop_view(process, self.random.randrange(99))

    def submit(self) -> None:
        process = self.process()
        key = self.held(process)
        if key is not None:
            self.world.submit(process, key)

    def grant(self) -> None:
        self.world.grant(*self.random.sample(self.world.all, 2))

    def run(self) -> None:
        process = self.process()
        if process.work:
            self.world.run(process, self.random.random() < 0.5, self.random.random() < 0.5)

    def spill(self) -> None:
        self.world.want_spilling(self.process())

    def drain(self) -> None:
        if not any(process.owner.evacuation.here for process in self.world.all):
            self.world.drain()

    def bring(self) -> None:
        if self.world.takes:
            self.world.bring(self.random.randrange(99), self.random.random() < 0.9)

    def write(self) -> None:
        if self.world.chosen:
            self.world.write(self.random.randrange(99), self.random.random() < 0.9)


class LeavingNode(Chance):
    """The same, and the node in which everything lies drains at some time."""

    def __init__(self, seed: int) -> None:
        super().__init__(seed)
        self.actions = [*self.actions, self.drain, self.bring, self.bring, self.bring]


@pytest.mark.parametrize("seed", range(150))
def test_objects_leave_a_node_that_drains_under_everybodys_eyes_and_no_byte_is_lost(seed: int):
    world = LeavingNode(seed).go(400)
    world.end()
    assert not (world.regions or world.files or world.rounds), "something is left when nobody refers to anything"


def test_the_seeds_above_move_most_of_what_there_is():
    assert sum(LeavingNode(seed).go(400).moved for seed in range(20)) > 100


# The long ones found that a borrower may hand a place on to one that has noted the move, and then drop the object.
@pytest.mark.parametrize(("seed", "actions"), [*((seed, 400) for seed in range(300)), (100_372, 1500), (100_894, 1500)])
def test_no_byte_that_somebody_may_look_at_is_freed_and_in_the_end_all_are(seed: int, actions: int):
    world = Chance(seed).go(actions)

    world.end()

    assert world.rounds == {}, "a round was never reported"
    assert world.regions == {}, "regions were never freed"
    assert world.files == {}, "files were never deleted"


def test_the_seeds_above_move_objects_that_are_lent_pinned_and_passed_on():
    worlds = [Chance(seed).go(200) for seed in range(20)]

    assert sum(world.spilled for world in worlds) > 50
    assert sum(world.looked_again for world in worlds) > 5
    assert sum(world.notes for world in worlds) > 5


def settled(world: World) -> None:
    for _ in range(6):
        world.now_ms += 100
        for process in world.all:
            world.step(process)


def test_object_that_nobody_looks_at_goes_to_disk_and_comes_back_from_it():
    world = World()
    anna = world.all[0]
    for _ in range(3):
        world.put(anna)
    world.step(anna)
    world.want_spilling(anna)
    world.step(anna)

    world.write(0, True)
    settled(world)

    locations = [anna.owner.objects.values[key].location for key in anna.refs]
    assert [bool(location.spill_path) for location in locations] == [True, True, True]
    assert world.regions == {} and world.rounds == {}
    for key in list(anna.refs):
        anna.queue.append(key)
    settled(world)
    assert world.files == {}


def test_range_of_an_object_that_died_while_it_was_written_is_cleared_in_a_file_that_others_keep():
    world = World()
    anna = world.all[0]
    for _ in range(3):
        world.put(anna)
    world.step(anna)
    world.want_spilling(anna)
    world.step(anna)
    dead = anna.refs.pop(1)
    place = anna.owner.objects.values[dead].location
    anna.queue.append(dead)
    world.step(anna)

    world.write(0, True)
    settled(world)

    [(path, _, size)] = world.cleared
    assert path in world.files and size == place.size


def test_place_stays_while_a_view_looks_at_it_and_goes_with_the_view():
    world = World()
    anna = world.all[0]
    world.put(anna)
    world.step(anna)
    world.want_spilling(anna)
    world.step(anna)
    world.start_reading(anna, anna.refs[0])

    world.go_on_reading(anna, anna.readings[0])
    world.write(0, True)
    settled(world)
    kept = dict(world.regions)
    world.drop_view(anna, 0)
    settled(world)

    assert len(kept) == 1 and world.regions == {}


def test_thread_that_read_the_location_just_before_it_changed_looks_again():
    world = World()
    anna = world.all[0]
    world.put(anna)
    world.step(anna)
    world.want_spilling(anna)
    world.step(anna)
    world.start_reading(anna, anna.refs[0])

    world.write(0, True)
    settled(world)
    world.go_on_reading(anna, anna.readings[0])

    assert anna.views == [] and anna.readings[0].location.spill_path
    world.go_on_reading(anna, anna.readings[0])


def test_borrower_keeps_the_place_until_it_has_noted_the_move():
    world = World()
    anna, bob = world.all[:2]
    world.put(anna)
    world.step(anna)
    key = anna.refs[0]
    world.lend(anna, bob, key)
    world.start_reading(bob, key)
    settled(world)
    world.start_reading(bob, key)
    world.go_on_reading(bob, bob.readings[0])
    settled(world)

    world.want_spilling(anna)
    settled(world)
    world.write(0, True)
    settled(world)
    held = len(world.regions)
    world.drop_view(bob, 0)
    for _ in range(12):
        settled(world)

    assert (held, len(world.regions)) == (1, 0)
    assert bob.owner.objects.values[key].location.spill_path


def test_owner_hears_that_it_is_borrowed_from_before_it_is_asked_where_the_object_is():
    world = World()
    anna, bob = world.all[:2]
    world.put(anna)
    world.step(anna)
    bob.queue.append(HoldRef(RefInfo(anna.refs[0], anna.address)))
    bob.queue.append(Wait([anna.refs[0]], 1, False, None, lambda: None))

    world.step(bob)

    sent = [type(WIRE.decode(data)).__name__ for data in world.channels[bob.id, anna.id]]
    assert sent == ["AddBorrows", "GetObject"]
