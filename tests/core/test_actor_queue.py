"""The actor queue: order of calls, and those that stand aside for their arguments."""

from typing import Any

from raybook.base.facts import ACTOR_ALIVE, ACTOR_DEAD, ACTOR_PENDING, ACTOR_RESTARTING
from raybook.base.specs import Endpoint
from raybook.core.owner.actor_queue import ActorQueue
from raybook.core.owner.records import FunctionStats, TaskRecord
from raybook.protocol.messages.raylet import ActorUpdate
from raybook.protocol.messages.worker import TaskSpec

ACTOR = b"a" * 16
STATS = FunctionStats("A.f")


def call(number: int, missing: int = 0, may_overtake: bool = False, retries: int = 0) -> TaskRecord:
    record = TaskRecord(TaskSpec(b"task%04d" % number, b"", "A.f", b""), STATS, None, ACTOR, retries)
    record.unresolved = missing
    record.may_overtake = may_overtake
    return record


def living() -> ActorQueue:
    queue = ActorQueue(ACTOR)
    queue.update(ActorUpdate(ACTOR, ACTOR_ALIVE, Endpoint(b"w" * 8, b"n" * 8, "somewhere"), 0))
    return queue


def sent(queue: ActorQueue) -> list[int]:
    effects: list[Any] = []
    queue.send_ready(effects)
    queue.check_invariants()
    return [int(record.spec.task_id[4:]) for effect in effects for record in effect.records]


def test_a_call_that_waits_for_an_argument_holds_up_those_behind_it():
    queue = living()
    late = call(0, missing=1)
    for record in (late, call(1)):
        assert queue.submit(record) is None
    assert sent(queue) == []
    late.unresolved = 0
    queue.resolved(late)
    assert sent(queue) == [0, 1]


def test_calls_that_may_overtake_pass_it_and_it_joins_the_end():
    queue = living()
    late = call(0, missing=1, may_overtake=True)
    for record in (late, call(1, may_overtake=True)):
        assert queue.submit(record) is None
    assert sent(queue) == [1]
    queue.submit(call(2, may_overtake=True))
    late.unresolved = 0
    queue.resolved(late)
    assert sent(queue) == [2, 0]


def test_a_call_that_stands_aside_can_be_withdrawn_once():
    queue = living()
    late = call(0, missing=1, may_overtake=True)
    queue.submit(late)
    assert queue.withdraw(late) and not queue.withdraw(late)
    assert sent(queue) == []


def test_a_call_that_stands_aside_outlives_a_restart_and_fails_with_the_death():
    queue = living()
    late = call(0, missing=1, may_overtake=True)
    queue.submit(late)
    assert queue.update(ActorUpdate(ACTOR, ACTOR_RESTARTING, None, 1)) == []
    failed = queue.update(ActorUpdate(ACTOR, ACTOR_DEAD, None, 1, death="It is gone."))
    assert [(record, error.code) for record, error in failed] == [(late, "ActorDiedError")]
    queue.check_invariants()


def test_what_was_known_before_an_actor_was_alive_does_not_put_it_back():
    """The answer to a question may come after the news."""
    queue = ActorQueue(ACTOR)
    for state in (ACTOR_PENDING, ACTOR_ALIVE, ACTOR_PENDING, ACTOR_RESTARTING):
        queue.update(ActorUpdate(ACTOR, state, Endpoint(b"w" * 8, b"n" * 8, "somewhere"), 0))
    assert queue.state == ACTOR_ALIVE
    queue.update(ActorUpdate(ACTOR, ACTOR_RESTARTING, None, 1))
    assert queue.state == ACTOR_RESTARTING


def test_a_dead_actor_stays_dead_whatever_is_told_late():
    queue = ActorQueue(ACTOR)
    queue.update(ActorUpdate(ACTOR, ACTOR_DEAD, None, 1, death="It is gone."))
    queue.update(ActorUpdate(ACTOR, ACTOR_ALIVE, Endpoint(b"w" * 8, b"n" * 8, "somewhere"), 1))
    assert queue.state == ACTOR_DEAD
