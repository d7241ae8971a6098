"""Recovery: what an owner does about objects that were lost with a node, in a scripted world."""

from __future__ import annotations

import pytest

from raybook.base.config import Config
from raybook.base.facts import ACTOR_ALIVE, ACTOR_DEAD, ACTOR_RESTARTING
from raybook.base.ids import FIRST_RETURN, return_id
from raybook.base.specs import Endpoint, Location, RefInfo, Value
from raybook.core.owner.records import (
    FromPeer,
    FromRaylet,
    FunctionStats,
    HoldRef,
    PeerGone,
    PushTo,
    Put,
    SourceLost,
    TakeItem,
    TaskRecord,
    ToPeer,
    ToRaylet,
    Wait,
)
from raybook.protocol.messages.raylet import ActorUpdate, DropCopies, NodeGone, ReturnLease
from raybook.protocol.messages.store import DeleteSpilled, FreeRegions, SpillObjects, SpillWanted
from raybook.protocol.messages.worker import (
    GetObject,
    ObjectReady,
    StreamCredit,
    TaskReplies,
    TaskReply,
    TaskSpec,
)
from raybook.testing.owner_world import ME, NODE, World

LOST = b"node-b.."
ACTOR = b"driver.." + b"\x00" * 7 + b"\x77"
CALL_BIT = 1 << 63


def at(offset: int, node: bytes = LOST) -> Value:
    return Value(location=Location(node, offset, 1_000))


def world_of(**options) -> World:
    world = World(workers=1, **options)
    world.owner.recovery.is_on = True
    return world


def made(world: World, offset: int, *, args: list[bytes] | None = None, retries: int = 3, name: str = "make") -> bytes:
    """A task has run, and its result lies on the node that will be lost."""
    key = world.task(FunctionStats(name), args=args, retries=retries)
    world.grant()
    world.run_one(value=at(offset))
    return key


def lose(world: World, node: bytes = LOST) -> None:
    world.feed(FromRaylet(NodeGone(node, "it was unplugged")))
    world.owner.recovery.check_invariants()


def run_all(world: World, value: Value | None = None) -> None:
    """Everything that waits runs; each result lies on the living node."""
    number = 1_000
    while world.grant() or any(world.queues.values()):
        number += 1
        world.run_one(value=value or at(number, NODE))


def error_of(world: World, key: bytes) -> tuple[str, str]:
    value = world.value(key)
    assert value is not None and value.error is not None
    return value.error.code, value.error.text


def messages(world: World, kind: type) -> list:
    return [
        effect.message
        for effect in world.effects
        if isinstance(effect, ToRaylet | ToPeer) and type(effect.message) is kind
    ]


# Tasks.


def test_a_lost_result_is_made_again():
    world = world_of()
    key = made(world, 64)
    lose(world)
    assert world.value(key) is None
    run_all(world)
    assert world.value(key).location.node_id == NODE
    assert world.owner.recovery.statistics()["rebuilt"] == 1


def test_before_it_what_it_is_made_of_is_made_again():
    world = world_of()
    part = made(world, 64)
    both = made(world, 128, args=[part])
    world.feed(part)  # Nobody but the record refers to it.
    lose(world)
    run_all(world)
    assert world.value(both).location.node_id == NODE
    assert [attempt for _, attempt in world.runs] == [0, 0, 1, 1]


def test_a_chain_of_a_thousand_tasks_is_made_again_and_forgotten_without_recursion():
    world = world_of()
    key = made(world, 0)
    for number in range(1, 1_000):
        before, key = key, made(world, 64 * number, args=[key])
        world.feed(before)
    lose(world)
    run_all(world)
    assert world.value(key).location.node_id == NODE
    assert world.owner.recovery.statistics()["rebuilt"] == 1_000
    world.feed(key)
    assert world.owner.recovery.statistics()["kept_tasks"] == 0


def test_a_chain_that_begins_with_something_put_fails_as_a_whole_and_says_why():
    world = world_of()
    first = ME + b"\x00" * 6 + b"\xff\x01" + FIRST_RETURN
    world.feed(Put(first, at(0)))
    key = made(world, 64, args=[first])
    for number in range(2, 300):
        key = made(world, 64 * number, args=[key])
    lose(world)
    code, text = error_of(world, key)
    assert code == "ObjectLostError"
    assert f"lost when node {LOST.hex()} died (it was unplugged). It was put" in text


def test_a_task_whose_retries_are_spent_says_so():
    world = world_of()
    key = made(world, 64, retries=1)
    lose(world)
    world.grant()
    world.run_one(value=at(64, b"node-c.."))
    lose(world, b"node-c..")
    code, text = error_of(world, key)
    assert code == "ObjectReconstructionFailedMaxAttemptsExceededError"
    assert "`make`, which made it, was run again 1 times already" in text and "max_retries" in text


def test_a_record_that_was_dropped_to_bound_memory_is_the_reason_given():
    world = world_of(config=Config(lineage_bytes_max=1_500))
    keys = [made(world, 64 * number) for number in range(4)]
    assert world.owner.recovery.statistics()["kept_tasks"] == 2
    lose(world)
    code, text = error_of(world, keys[0])
    assert code == "ObjectReconstructionFailedLineageEvictedError"
    assert "lineage_bytes_max" in text and "1,500 bytes" in text
    run_all(world)
    assert world.value(keys[3]).location.node_id == NODE


def test_a_record_that_was_dropped_and_kept_again_is_counted_right():
    world = world_of(config=Config(lineage_bytes_max=1_500))
    first = made(world, 0)
    second = made(world, 64, args=[first])
    third = made(world, 128, args=[second])
    lose(world)
    run_all(world)
    world.owner.recovery.check_invariants()
    world.feed(first, second, third)
    world.owner.recovery.check_invariants()
    assert world.owner.recovery.statistics()["kept_bytes"] == 0


# Copies.


def test_a_copy_on_this_node_is_where_the_object_lies_from_then_on():
    world = world_of()
    key = made(world, 64)
    world.owner.objects.copies[key] = Location(NODE, 4_096, 1_000)
    lose(world)
    assert world.value(key).location == Location(NODE, 4_096, 1_000)
    assert world.owner.recovery.statistics()["rebuilt"] == 0

    world.effects.clear()
    world.feed(key)

    assert messages(world, DropCopies) == [DropCopies([key])]
    assert messages(world, FreeRegions) == []
    assert world.owner.recovery.statistics()["kept_tasks"] == 0


def test_a_borrower_tells_the_owner_what_it_could_not_read():
    """The owner may not know yet that the node is dead, and would name it once more."""
    world = world_of()
    key = made(world, 64)
    world.feed(FromPeer(b"borrower", GetObject(key, LOST)))
    assert not messages(world, ObjectReady)
    run_all(world)
    (told,) = messages(world, ObjectReady)
    assert told.value.location.node_id == NODE


def test_a_borrowed_object_that_was_lost_is_asked_for_with_the_node_that_it_was_lost_with():
    world = world_of()
    key = b"owner..." + b"\x00" * 8 + FIRST_RETURN
    world.feed(HoldRef(RefInfo(key, "unix:/owner")))
    world.owner.exchange.need(RefInfo(key, "unix:/owner"))
    world.feed(FromPeer(b"owner...", ObjectReady(key, at(64))))
    world.feed(SourceLost(key, Location(LOST, 64, 1_000)))
    world.effects.clear()
    world.owner.exchange.need(RefInfo(key, "unix:/owner"))
    world.feed()
    assert messages(world, GetObject) == [GetObject(key, LOST)]


def test_an_argument_that_a_worker_could_not_read_is_asked_for_in_the_same_way():
    """It came with its task: nothing else was known of it here."""
    world = world_of()
    key = b"owner..." + b"\x00" * 8 + FIRST_RETURN
    ref = RefInfo(key, "unix:/owner")
    world.feed(SourceLost(key, Location(LOST, 64, 1_000)), HoldRef(ref), Wait([key], 1, False))
    assert messages(world, GetObject) == [GetObject(key, LOST)]


def test_a_file_of_a_dead_node_is_not_asked_to_be_deleted():
    world = world_of()
    key = made(world, 64)
    world.value(key).location = Location(LOST, 0, 1_000, "/tmp/x", 7)
    world.effects.clear()
    lose(world)
    run_all(world)
    world.feed(key)
    assert messages(world, DeleteSpilled) == []


# Calls of actors.


class Acting:
    """A world with an actor on the node that will be lost, and one call of it that has been answered."""

    def __init__(self, retries: int = 3) -> None:
        self.world = world_of()
        self.incarnation = 0
        self.alive(LOST)
        task_id = ME + (CALL_BIT | 1).to_bytes(8, "big")
        self.key = task_id + FIRST_RETURN
        self.call = TaskRecord(
            TaskSpec(task_id, b"", "Maker.make", b""), FunctionStats("Maker.make"), actor_id=ACTOR, retries_left=retries
        )
        self.world.owner.references.hold_again(ACTOR)
        self.world.feed(self.call)
        self.answer(at(64))

    def alive(self, node: bytes) -> None:
        self.world.owner.actors.queue(ACTOR)
        endpoint = Endpoint(b"actor-%d." % self.incarnation, node, "unix:/actor")
        self.tell(ACTOR_ALIVE, endpoint)

    def tell(self, state: str, endpoint: Endpoint | None = None) -> None:
        self.world.feed(FromRaylet(ActorUpdate(ACTOR, state, endpoint, self.incarnation, death="it was killed")))

    def answer(self, value: Value) -> None:
        spec = self.call.spec
        self.world.feed(FromPeer(b"actor", TaskReplies([TaskReply(spec.task_id, spec.attempt, [value])])))

    def pushes(self) -> int:
        return sum(isinstance(effect, PushTo) for effect in self.world.effects)


def test_a_call_with_retries_is_made_again_by_the_restarted_actor():
    acting = Acting(retries=1)
    lose(acting.world)
    assert acting.pushes() == 1, "Nothing is sent to a life that is over: it would cost a retry."
    acting.incarnation = 1
    acting.tell(ACTOR_RESTARTING)
    acting.alive(NODE)
    assert acting.pushes() == 2
    acting.answer(at(64, NODE))
    assert acting.world.value(acting.key).location.node_id == NODE
    acting.world.owner.check_invariants()


def test_a_call_of_an_actor_on_a_living_node_is_made_again_at_once():
    acting = Acting(retries=-1)
    acting.world.value(acting.key).location = Location(b"node-c..", 0, 1_000)
    lose(acting.world, b"node-c..")
    assert acting.pushes() == 2


def test_a_call_without_retries_is_not_made_again_and_says_which_setting_would():
    acting = Acting(retries=0)
    lose(acting.world)
    code, text = error_of(acting.world, acting.key)
    assert code == "ObjectLostError"
    assert "is a method of an actor, and is not called again" in text and "max_task_retries" in text


def test_a_call_of_an_actor_that_has_ended_is_not_made_again():
    acting = Acting()
    acting.tell(ACTOR_DEAD)
    lose(acting.world)
    code, text = error_of(acting.world, acting.key)
    assert code == "ObjectLostError"
    assert f"the actor {ACTOR.hex()}, which has ended" in text


# Items of generators.


def streaming(items: int, retries: int = 3, window: int = -1) -> tuple[World, bytes, bytes]:
    """A generator has sent so many items, which lie on the node that will be lost, and runs on."""
    world = world_of()
    task_id = world.stream(FunctionStats("items"), retries=retries, window=window)
    world.grant()
    (worker,) = world.queues
    world.yield_items(worker, world.queues[worker][0], 1, [at(64 * number) for number in range(1, items + 1)])
    return world, task_id, worker


def again(world: World) -> TaskSpec:
    """The generator is pushed anew."""
    world.grant()
    ((spec,),) = [queue for queue in world.queues.values() if queue]
    return spec


def test_items_of_a_generator_that_has_ended_are_made_again_and_the_others_are_not_kept_twice():
    world, task_id, worker = streaming(4)
    world.feed(*[TakeItem(task_id, number) for number in range(1, 5)])
    world.end_stream(worker)
    world.feed(return_id(task_id, 1))  # The first item is garbage.
    lose(world)
    spec = again(world)
    assert spec.stream.received == 1, "What comes before the first missing one is left out."
    world.effects.clear()
    world.yield_items(worker, spec, 2, [at(2_000 + number, NODE) for number in range(3)])
    assert [world.value(return_id(task_id, number)).location.node_id for number in (2, 3, 4)] == [NODE] * 3
    assert [credit.consumed for credit in messages(world, StreamCredit)] == [-1], "No more is wanted."
    world.end_stream(worker)
    assert not world.owner.tasks.tasks
    world.owner.check_invariants()


def test_items_lost_while_their_generator_runs_come_with_its_next_attempt():
    world, task_id, worker = streaming(3)
    lease = max(world.leases)
    lose(world)
    world.kill(lease)
    spec = again(world)
    assert (spec.attempt, spec.stream.received) == (1, 0)
    (worker,) = [name for name, queue in world.queues.items() if queue]
    world.yield_items(worker, spec, 1, [at(64 * number, NODE) for number in range(1, 6)])
    world.end_stream(worker)
    found = [world.value(return_id(task_id, number)) for number in range(1, 7)]
    assert [value.location.node_id for value in found[:5]] == [NODE] * 5
    assert found[5].error is not None, "Behind the last item stands the end."


def test_items_lost_while_another_attempt_runs_are_made_again_when_it_has_ended():
    """That attempt began behind them."""
    world, task_id, worker = streaming(2)
    world.kill(max(world.leases))
    spec = again(world)
    assert spec.stream.received == 2
    (worker,) = [name for name, queue in world.queues.items() if queue]
    lose(world)
    world.yield_items(worker, spec, 3, [at(640, NODE)])
    world.end_stream(worker)
    spec = again(world)
    assert spec.stream.received == 0
    (worker,) = [name for name, queue in world.queues.items() if queue]
    world.yield_items(worker, spec, 1, [at(704, NODE), at(768, NODE)])
    assert world.value(return_id(task_id, 2)).location == Location(NODE, 768, 1_000)
    world.end_stream(worker)
    world.owner.check_invariants()


def test_a_producer_that_may_wait_for_its_reader_is_stopped_for_the_next_attempt():
    """Its reader may wait for an item that only another attempt brings."""
    world, task_id, worker = streaming(2, window=2)
    world.kill(max(world.leases))
    spec = again(world)
    (worker,) = [name for name, queue in world.queues.items() if queue]
    assert spec.stream.received == 2
    world.effects.clear()
    lose(world)
    assert [credit.consumed for credit in messages(world, StreamCredit)] == [-1]
    world.end_stream(worker)
    assert world.value(task_id + FIRST_RETURN) is None, "It has not ended; it only stopped."
    spec = again(world)
    assert (spec.attempt, spec.stream.received) == (2, 0)
    (worker,) = [name for name, queue in world.queues.items() if queue]
    world.yield_items(worker, spec, 1, [at(64 * number, NODE) for number in range(1, 4)])
    world.end_stream(worker)
    assert [world.value(return_id(task_id, number)).location.node_id for number in (1, 2, 3)] == [NODE] * 3
    assert world.value(task_id + FIRST_RETURN) is not None


def test_a_generator_that_makes_fewer_items_the_second_time_says_so():
    world, task_id, worker = streaming(2)
    world.end_stream(worker)
    lose(world)
    spec = again(world)
    world.yield_items(worker, spec, 1, [at(64, NODE)])
    world.end_stream(worker)
    code, text = error_of(world, return_id(task_id, 2))
    assert code == "ObjectReconstructionFailedError"
    assert "item 2 of the generator `items`" in text and "fewer items" in text


def test_items_of_a_generator_without_retries_say_so():
    world, task_id, worker = streaming(1, retries=0)
    world.end_stream(worker)
    lose(world)
    assert error_of(world, return_id(task_id, 1))[0] == "ObjectReconstructionFailedMaxAttemptsExceededError"


def test_a_generator_dropped_while_its_items_are_made_again_leaves_nothing():
    world, task_id, worker = streaming(2)
    world.end_stream(worker)
    world.feed(TakeItem(task_id, 1))
    lose(world)
    spec = again(world)
    world.feed(task_id + b"\xff\xff\xff\xff")
    world.yield_items(worker, spec, 1, [at(64, NODE), at(128, NODE)])
    world.end_stream(worker)
    world.feed(return_id(task_id, 1), task_id + FIRST_RETURN)
    owner = world.owner
    assert not (owner.references.counts or owner.objects.values or owner.generators.streams or owner.tasks.tasks)
    assert owner.recovery.statistics()["kept_tasks"] == 0


# Workers that live and cannot be talked to.


def test_a_worker_out_of_reach_whose_raylet_knows_nothing_is_reported_as_broken():
    world = world_of()
    key = world.task(FunctionStats("slow"))
    world.grant()
    (lease,) = world.leases
    world.feed(PeerGone(world.leases[lease][0]))
    world.tick(14_999)
    assert messages(world, ReturnLease) == [], "The death of its node would not be known yet."
    worker, _ = world.leases[lease]
    world.queues[worker].clear()
    world.tick(1)
    assert messages(world, ReturnLease) == [ReturnLease(lease, worker_broken=True)]
    world.grant()
    world.run_one()
    assert world.value(key) is not None


@pytest.mark.parametrize("node", [LOST, b"node-c.."])
def test_a_round_of_spilling_ends_with_its_node(node: bytes):
    """Else no other node could ask this owner for anything again."""
    world = world_of()
    made(world, 64)
    world.feed(FromRaylet(SpillWanted(1, 1_000, LOST)))
    lose(world, node)
    world.effects.clear()
    world.feed(FromRaylet(SpillWanted(2, 1_000, NODE)))
    (answer,) = messages(world, SpillObjects)
    assert answer.node_id == NODE
    is_free = world.owner.relocations._round.node_id == NODE
    assert is_free is (node == LOST)
