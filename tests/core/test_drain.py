"""Drain: when a node may be emptied, when it leaves, and what it says meanwhile; and what the tables make of it."""

from __future__ import annotations

from raybook.base.drains import IDLE_TERMINATION, NO_DEADLINE, PREEMPTION
from raybook.base.facts import ACTOR_ALIVE, ACTOR_DEAD, ACTOR_PENDING, ACTOR_RESTARTING
from raybook.base.specs import Endpoint
from raybook.base.strategies import NodeTarget
from raybook.core.cluster import actor_events as on
from raybook.core.cluster import node_table as nt
from raybook.core.cluster.actor_table import ActorTable
from raybook.core.node import drain as dr
from raybook.core.node import lease_events as le
from raybook.core.node import spillover as so
from raybook.core.node import worker_pool as wp
from raybook.core.owner.actor_queue import ActorQueue
from raybook.core.owner.records import FunctionStats, TaskRecord
from raybook.protocol.messages.gcs import NodeInfo
from raybook.protocol.messages.raylet import ActorUpdate
from raybook.protocol.messages.worker import TaskSpec
from tests.core.test_actor_table import NODE_A, NODE_B, FirstNode, bring_alive, create, of_kind, report, spec_of
from tests.core.test_lease_manager import DRIVER, Scene, actor, all_of, only
from tests.core.test_spillover import HERE, B
from tests.core.test_spillover import Scene as Layout

BUSY = dr.NodeLoad(tasks=2, actors=1)


def request(machine: dr.Drain, reason: str, load: dr.NodeLoad, deadline_ms: int = NO_DEADLINE, now_ms: int = 0) -> list:
    effects = machine.handle([dr.DrainRequested(reason, "spot notice", deadline_ms, load)], now_ms)
    machine.check_invariants()
    return effects


# --- the node ---------------------------------------------------------------------------------------------------------


def test_node_that_is_busy_refuses_to_end_for_idleness_and_serves_on():
    machine = dr.Drain()
    assert request(machine, IDLE_TERMINATION, BUSY) == [
        dr.AnswerDrain("The node is not idle: it has 2 × task, 1 × actor.")
    ]
    assert (machine.state, machine.why) == (dr.DrainState.SERVING, "")
    assert machine.next_deadline_ms() is None


def test_preempted_node_is_not_asked():
    machine = dr.Drain()
    effects = request(machine, PREEMPTION, BUSY)
    assert effects == [dr.AnswerDrain(""), dr.StopServing("it is taken away: spot notice")]
    assert machine.waiting() == ["This node drains (it is taken away: spot notice) and waits for 2 × task, 1 × actor."]


def test_node_leaves_when_it_was_empty_at_two_looks():
    machine = dr.Drain()
    request(machine, PREEMPTION, BUSY)
    assert machine.handle([dr.Looked(dr.EMPTY)], 50) == []
    assert machine.handle([dr.Looked(dr.NodeLoad(owners=1))], 100) == []
    assert machine.handle([dr.Looked(dr.EMPTY)], 150) == []
    assert machine.handle([dr.Looked(dr.EMPTY)], 200) == [dr.Leave("it is taken away: spot notice")]
    assert machine.next_deadline_ms() is None
    assert "leaves" in machine.story(b"")


def test_node_leaves_at_its_deadline_and_says_with_what():
    machine = dr.Drain()
    request(machine, PREEMPTION, BUSY, deadline_ms=1_000)
    assert machine.handle([dr.Looked(dr.NodeLoad(tasks=1))], 999) == []
    assert machine.next_deadline_ms() == 1_000
    (leave,) = machine.handle([], 1_000)
    assert leave == dr.Leave("it is taken away: spot notice; the deadline came with 1 × task left")
    assert machine.handle([dr.Looked(dr.EMPTY)], 1_100) == []


def test_second_request_brings_another_deadline_and_begins_nothing():
    machine = dr.Drain()
    request(machine, PREEMPTION, BUSY)
    assert request(machine, IDLE_TERMINATION, BUSY, deadline_ms=500, now_ms=10) == [dr.AnswerDrain("")]
    assert of_kind(machine.handle([], 510), dr.Leave)
    assert request(machine, PREEMPTION, dr.EMPTY, now_ms=600) == [dr.AnswerDrain("")]


def test_node_that_drains_grants_nothing_and_asks_every_lease_back_when_its_task_has_ended():
    scene = Scene(workers=2, CPU=3)
    scene.demand(1)
    question = only(scene.tell(le.NodeDraining("spot")), le.AskRevoke)
    assert question.drain
    assert scene.demand(2, class_key=1) == []
    assert scene.machine.waiting() == ["2 × f1 wait for another node: this one drains (spot)."]
    effects = scene.tell(le.RevokeAnswered(question.worker, question.epoch, True))
    assert not only(effects, le.LeaseLostEffect).died
    assert all_of(effects, le.Grant) == []
    assert scene.later(60_000) == []


def test_node_that_drains_repeats_no_question_for_those_who_wait_in_vain():
    """Its clock would ring at a moment that has passed, again and again, for as long as it drains."""
    scene = Scene(workers=1, CPU=1)
    scene.demand(1)
    scene.demand(1, class_key=1)
    assert scene.machine.next_deadline_ms() is not None
    scene.tell(le.NodeDraining("spot"))
    assert scene.machine.next_deadline_ms() is None


def test_worker_that_has_not_heard_of_its_owner_yet_is_asked_again():
    scene = Scene(workers=1, CPU=1)
    scene.demand(1)
    question = only(scene.tell(le.NodeDraining("spot")), le.AskRevoke)
    assert only(scene.tell(le.RevokeAnswered(question.worker, question.epoch, False)), le.AskRevoke) == question


def test_node_that_drains_starts_no_worker_and_no_actor_that_waits():
    scene = Scene(workers=1, CPU=1)
    scene.demand(1)
    scene.tell(le.ActorRequested(actor(), 0))
    scene.tell(le.NodeDraining("spot"))
    effects = scene.tell(le.WorkerDied(b"w0"), le.WorkerReady(b"w1"))
    assert all_of(effects, le.StartActorOn) == []
    assert [effect.count for effect in all_of(effects, le.StartWorkers)] in ([], [0])
    assert only(scene.tell(le.ActorCancelled(b"a" * 16, 0)), le.ActorGone).started is False


def test_workers_of_a_pool_that_closes_are_all_asked_to_end_and_none_is_started():
    pool = wp.WorkerPool(kept=2, prestart=2, parallel_starts_max=4, worker_idle_ms=1_000, start_timeout_ms=30_000)
    starts = pool.handle([], 0)
    pool.handle([wp.WorkerRegistered(start.start_id, b"w%d" % start.start_id) for start in starts], 1)
    ended = pool.handle([wp.PoolClosing()], 2)
    assert [type(effect) for effect in ended] == [wp.EndWorker, wp.EndWorker]
    assert pool.handle([wp.WorkerLeft(b"w1"), wp.WorkerLeft(b"w2")], 3) == []


def test_demand_is_laid_out_around_nodes_that_drain_also_around_ones_own():
    scene = Layout()
    scene.demand(5)
    scene.view.remove(B)
    assert B not in {node for node, count in scene.tell(so.ViewChanged()).items() if count}
    scene.view.remove(HERE)
    scene.machine.is_draining = True
    scene.tell(so.ViewChanged())
    assert scene.machine.parts_of(DRIVER, 0) == {b"node-c--": 5}


def test_task_that_must_run_on_a_node_that_drains_is_refused():
    scene = Layout()
    scene.view.remove(HERE)
    scene.machine.is_draining = True
    scene.demand(1, strategy=NodeTarget(HERE, False).encode())
    (refusal,) = [effect for effect in scene.effects if isinstance(effect, so.RefuseDemand)]
    assert "never in this cluster" in refusal.text


# --- the cluster ------------------------------------------------------------------------------------------------------


def test_node_that_drains_is_alive_and_announced_once():
    table = nt.NodeTable(100, 1_000)
    table.handle([nt.NodeRegistered(NodeInfo(NODE_A))], 0)
    assert table.handle([nt.NodeDraining(NODE_A, "spot")], 1) == [nt.AnnounceDraining(NODE_A, "spot")]
    assert table.handle([nt.NodeDraining(NODE_A, "again")], 2) == []
    assert table.is_alive(NODE_A)
    assert table.handle([nt.NodeLeft(NODE_A, "it was drained (spot).")], 3) == [
        nt.AnnounceDead(NODE_A, "it was drained (spot).")
    ]
    assert table.handle([nt.NodeDraining(NODE_A, "spot")], 4) == []


def test_node_that_registers_anew_while_it_drains_is_announced_again():
    table = nt.NodeTable(100, 1_000)
    effects = table.handle([nt.NodeRegistered(NodeInfo(NODE_A, draining="spot"))], 0)
    assert [type(effect) for effect in effects] == [nt.AnnounceJoined, nt.AnnounceDraining]


def test_actor_on_a_node_that_drains_ends_after_its_calls_and_lives_on_elsewhere_at_no_cost():
    chooser = FirstNode(NODE_A, NODE_B)
    table = ActorTable(chooser)
    spec = spec_of(max_restarts=1)
    create(table, spec)
    bring_alive(table, spec)
    chooser.nodes.remove(NODE_A)
    effects = table.handle([on.NodeDraining(NODE_A, "spot")], 2)
    (told,) = of_kind(effects, on.Publish)
    assert (told.info.state, told.info.moving) == (ACTOR_ALIVE, True)
    (stop,) = of_kind(effects, on.StopOn)
    assert (stop.node_id, stop.graceful) == (NODE_A, True)
    effects = report(table, spec, ACTOR_DEAD, intended=True)
    (place,) = of_kind(effects, on.Place)
    assert (place.node_id, place.incarnation) == (NODE_B, 1)
    info = table.info(spec.actor_id)
    assert (info.state, info.restarts_left, info.moving) == (ACTOR_RESTARTING, 1, True)
    bring_alive(table, spec, 1)
    assert not table.info(spec.actor_id).moving


def test_actor_that_has_used_its_restarts_survives_a_drained_node_and_one_without_any_stays_until_its_end():
    chooser = FirstNode(NODE_A, NODE_B)
    table = ActorTable(chooser)
    far = Endpoint(b"owner...", b"node-o..", "unix:/o")
    used, never = spec_of(1, max_restarts=1, owner=far), spec_of(2, owner=far)
    for spec in (used, never):
        create(table, spec)
        bring_alive(table, spec)
    report(table, used, ACTOR_DEAD)
    bring_alive(table, used, 1)
    chooser.nodes.remove(NODE_A)
    stops = of_kind(table.handle([on.NodeDraining(NODE_A, "spot")], 2), on.StopOn)
    assert [stop.actor_id for stop in stops] == [used.actor_id]
    table.handle([on.NodeLost(NODE_A, "it was drained (spot).", drained=True)], 3)
    table.check_invariants()
    assert (table.info(used.actor_id).state, table.info(used.actor_id).node_id) == (ACTOR_RESTARTING, NODE_B)
    assert table.info(never.actor_id).state == ACTOR_DEAD
    assert "drained" in table.info(never.actor_id).death


def test_actor_that_waits_on_a_node_that_drains_is_placed_elsewhere_at_once():
    chooser = FirstNode(NODE_A, NODE_B)
    table = ActorTable(chooser)
    spec = spec_of()
    create(table, spec)
    chooser.nodes.remove(NODE_A)
    effects = table.handle([on.NodeDraining(NODE_A, "spot")], 1)
    assert [(stop.node_id, stop.incarnation) for stop in of_kind(effects, on.StopOn)] == [(NODE_A, 0)]
    assert [(place.node_id, place.incarnation) for place in of_kind(effects, on.Place)] == [(NODE_B, 1)]
    assert report(table, spec, ACTOR_DEAD, 0, intended=True) == []
    assert table.info(spec.actor_id).state == ACTOR_PENDING


# --- callers ----------------------------------------------------------------------------------------------------------


def call(number: int, retries: int = 0) -> TaskRecord:
    return TaskRecord(TaskSpec(b"task%04d" % number, b"", "m", b""), FunctionStats("m"), None, retries_left=retries)


def test_calls_wait_for_the_next_life_of_an_actor_that_moves_and_none_fails_for_coming_between():
    endpoint = Endpoint(b"worker..", NODE_A, "unix:/w")
    queue, effects = ActorQueue(b"actor..."), []
    queue.update(ActorUpdate(b"actor...", ACTOR_ALIVE, endpoint))
    sent = call(1)
    queue.submit(sent)
    queue.send_ready(effects)
    assert len(effects) == 1
    assert queue.update(ActorUpdate(b"actor...", ACTOR_ALIVE, endpoint, moving=True)) == []
    assert queue.submit(call(2)) is None
    queue.send_ready(effects)
    assert len(effects) == 1, "a call was sent to a life that is ending"
    assert queue.answered(sent), "what had been sent is answered as ever"
    assert queue.update(ActorUpdate(b"actor...", ACTOR_RESTARTING, None, 1, moving=True)) == []
    assert queue.submit(call(3)) is None
    queue.update(ActorUpdate(b"actor...", ACTOR_ALIVE, Endpoint(b"other...", NODE_B, "unix:/o"), 1))
    queue.send_ready(effects)
    assert [record.spec.task_id for record in effects[1].records] == [b"task0002", b"task0003"]
    queue.check_invariants()
