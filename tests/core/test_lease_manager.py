"""Lease manager, scenes: who gets which worker, who is asked back, what happens to the leases of the dead."""

from __future__ import annotations

from raybook.base.resources import shape_of
from raybook.base.specs import ActorSpec, Endpoint, SchedulingClass
from raybook.core.node.lease_events import (
    ActorCancelled,
    ActorFailed,
    ActorGone,
    ActorReady,
    ActorRequested,
    AskRevoke,
    ClientGone,
    DemandSet,
    Grant,
    Infeasible,
    KillWorker,
    LeaseLostEffect,
    LeaseProbed,
    LeaseReturned,
    ReportResources,
    RevokeAnswered,
    StartActorOn,
    StartWorkers,
    WorkerBlocked,
    WorkerDied,
    WorkerLeaving,
    WorkerReady,
    WorkerTaken,
    WorkerUnblocked,
    WorkerWithdrawn,
)
from raybook.core.node.lease_manager import ORPHAN_GRACE_MS, LeaseManager
from raybook.core.node.lease_recall import DRAIN_ANSWER_MS, INTERVAL_MS, LEASE_HOLD_MS
from raybook.core.node.local_resources import LocalResources

DRIVER = b"driver--"
OTHER = b"other---"


class Scene:
    """A node and its clock. ``tell`` returns the effects and keeps the invariants checked."""

    def __init__(self, workers: int = 0, light_leases_max: int = 4, **amounts: float) -> None:
        self.machine = LeaseManager(LocalResources(shape_of(amounts or {"CPU": 1})), light_leases_max)
        self.now_ms = 1_000
        for number in range(workers):
            self.tell(WorkerReady(b"w%d" % number))

    def tell(self, *events) -> list:
        effects = self.machine.handle(events, self.now_ms)
        self.machine.check_invariants()
        return [effect for effect in effects if not isinstance(effect, (ReportResources, WorkerTaken))]

    def demand(self, count: int, client: bytes = DRIVER, class_key: int = 0, environment: str = "", **amounts) -> list:
        shape = shape_of(amounts if amounts else {"CPU": 1})
        what = SchedulingClass(tuple(sorted(shape.items())), environment)
        return self.tell(DemandSet(client, class_key, what, count, f"f{class_key}"))

    def later(self, passed_ms: int) -> list:
        self.now_ms += passed_ms
        return self.tell()


def only(effects: list, kind: type):
    found = [effect for effect in effects if isinstance(effect, kind)]
    assert len(found) == 1, effects
    return found[0]


def all_of(effects: list, kind: type) -> list:
    return [effect for effect in effects if isinstance(effect, kind)]


def actor(resources: dict | None = None, placement: dict | None = None, actor_id: bytes = b"a" * 16) -> ActorSpec:
    return ActorSpec(
        actor_id,
        b"job-----",
        "Counter",
        Endpoint(DRIVER, b"", ""),
        shape_of(resources or {}),
        shape_of({"CPU": 1} if placement is None else placement),
        b"",
    )


# --- granting ---------------------------------------------------------------------------------------------------------


def test_demand_gets_as_many_leases_as_there_are_cpus():
    scene = Scene(workers=3, CPU=2)
    grants = all_of(scene.demand(5), Grant)
    assert len(grants) == 2
    assert len({grant.worker for grant in grants}) == 2
    assert grants[0].assignment.resources == {"CPU": 10_000}


def test_without_an_idle_worker_one_is_asked_for_each_that_could_run():
    scene = Scene(CPU=3)
    assert only(scene.demand(10), StartWorkers) == StartWorkers("", 3)
    scene = Scene(CPU=3)
    assert only(scene.demand(2), StartWorkers) == StartWorkers("", 2)


def test_nothing_is_asked_for_when_demand_is_withdrawn():
    scene = Scene(CPU=1)
    scene.demand(1)
    assert only(scene.demand(0), StartWorkers) == StartWorkers("", 0)


def test_workers_are_started_in_the_environment_that_is_wanted():
    scene = Scene(workers=1)
    assert scene.demand(1, environment="uv:1") == [StartWorkers("uv:1", 1)]
    assert only(scene.tell(WorkerReady(b"fresh", "uv:1")), Grant).worker == b"fresh"


def test_epoch_of_a_worker_grows_with_each_lease():
    scene = Scene(workers=1)
    first = only(scene.demand(2), Grant)
    second = only(scene.tell(LeaseReturned(DRIVER, first.lease_id)), Grant)
    assert second.worker == first.worker and second.epoch > first.epoch and second.lease_id != first.lease_id


def test_a_lease_cannot_be_returned_by_somebody_else_or_twice():
    scene = Scene(workers=1)
    lease = only(scene.demand(1), Grant)
    assert scene.tell(LeaseReturned(OTHER, lease.lease_id)) == []
    scene.tell(LeaseReturned(DRIVER, lease.lease_id))
    assert scene.tell(LeaseReturned(DRIVER, lease.lease_id)) == []
    assert scene.machine.resources.available == scene.machine.resources.total


def test_worker_that_its_owner_cannot_talk_to_is_ended():
    scene = Scene(workers=2, CPU=2)
    lease = only(scene.demand(1), Grant)
    killed = only(scene.tell(LeaseReturned(DRIVER, lease.lease_id, broken=True)), KillWorker)
    assert killed.worker == lease.worker
    assert only(scene.demand(1), Grant).worker != lease.worker


def test_clients_of_equal_demand_take_turns():
    scene = Scene(workers=4, CPU=4)
    scene.tell(*(DemandSet(DRIVER, 0, SchedulingClass((("CPU", 40_000),)), 1),))
    big = scene.machine.reports.task_leases()
    assert len(big) == 1
    scene.demand(4, client=DRIVER, class_key=1)
    scene.demand(4, client=OTHER, class_key=7)
    grants = all_of(scene.tell(LeaseReturned(DRIVER, 1)), Grant)
    assert [grant.client for grant in grants] == [DRIVER, OTHER, DRIVER, OTHER]


def test_who_holds_nothing_goes_before_who_holds_something():
    scene = Scene(workers=2, CPU=2)
    first = all_of(scene.demand(10), Grant)
    scene.demand(1, client=OTHER)
    assert only(scene.tell(LeaseReturned(DRIVER, first[0].lease_id)), Grant).client == OTHER


def test_a_small_request_is_served_while_a_large_one_waits():
    scene = Scene(workers=3, CPU=2)
    scene.demand(1, class_key=0)
    scene.demand(1, class_key=1, CPU=2)
    assert only(scene.demand(1, class_key=2), Grant).class_key == 2


def test_a_worker_is_never_leased_to_itself():
    scene = Scene(workers=1)
    assert scene.demand(1, client=b"w0") == [StartWorkers("", 1)]


def test_the_worker_that_served_a_client_before_is_preferred():
    scene = Scene(workers=2, CPU=2)
    mine = only(scene.demand(1), Grant)
    theirs = only(scene.demand(1, client=OTHER), Grant)
    scene.tell(LeaseReturned(DRIVER, mine.lease_id))
    scene.tell(LeaseReturned(OTHER, theirs.lease_id))
    assert only(scene.demand(1), Grant).worker == mine.worker


def test_tasks_that_ask_for_nothing_are_bounded():
    scene = Scene(workers=6, light_leases_max=3, CPU=1)
    what = SchedulingClass(())
    assert len(all_of(scene.tell(DemandSet(DRIVER, 0, what, 10)), Grant)) == 3
    worker = scene.machine.reports.task_leases()[0][0]
    assert len(all_of(scene.tell(WorkerBlocked(worker)), Grant)) == 1


# --- infeasible -------------------------------------------------------------------------------------------------------


def test_infeasible_demand_is_told_once_and_stays_queued():
    scene = Scene(CPU=2)
    told = only(scene.demand(1, CPU=4), Infeasible)
    assert told.client == DRIVER and "f0" in told.text and "{CPU: 4}" in told.text and "{CPU: 2}" in told.text
    assert all_of(scene.demand(2, CPU=4), Infeasible) == []
    assert scene.machine.reports.queued()[0].count == 2
    assert len(all_of(scene.demand(1, class_key=1, GPU=1), Infeasible)) == 1


def test_infeasible_demand_does_not_disturb_feasible_one():
    scene = Scene(workers=1, CPU=1)
    scene.demand(1, CPU=4)
    assert only(scene.demand(1, class_key=1), Grant)


def test_waiting_says_what_waits_and_for_what():
    scene = Scene(workers=1, CPU=1)
    scene.demand(1)
    scene.demand(3, class_key=1)
    (line,) = scene.machine.waiting()
    assert "3 × f1" in line and "{CPU: 1}" in line and "{CPU: 0}" in line


# --- recall -----------------------------------------------------------------------------------------------------------


def test_an_idle_lease_of_one_class_is_revoked_for_another():
    scene = Scene(workers=1)
    first = only(scene.demand(1), Grant)
    question = only(scene.demand(1, class_key=1), AskRevoke)
    assert question == AskRevoke(first.worker, first.epoch)
    effects = scene.tell(RevokeAnswered(first.worker, first.epoch, True))
    assert only(effects, LeaseLostEffect) == LeaseLostEffect(DRIVER, first.lease_id, died=False)
    assert only(effects, Grant).class_key == 1


def test_a_busy_worker_is_asked_again_after_fifty_milliseconds():
    scene = Scene(workers=1)
    first = only(scene.demand(1), Grant)
    only(scene.demand(1, class_key=1), AskRevoke)
    assert scene.tell(RevokeAnswered(first.worker, first.epoch, False)) == []
    assert scene.machine.next_deadline_ms() == scene.now_ms + INTERVAL_MS
    assert scene.later(INTERVAL_MS - 1) == []
    assert only(scene.later(1), AskRevoke).worker == first.worker


def test_only_as_many_leases_are_asked_back_as_are_wanted():
    scene = Scene(workers=4, CPU=4)
    scene.demand(4)
    assert len(all_of(scene.demand(2, class_key=1), AskRevoke)) == 2


def test_when_one_is_busy_the_next_is_asked():
    scene = Scene(workers=2, CPU=2)
    scene.demand(2)
    first = only(scene.demand(1, class_key=1), AskRevoke)
    second = only(scene.tell(RevokeAnswered(first.worker, first.epoch, False)), AskRevoke)
    assert second.worker != first.worker


def test_a_silent_worker_holds_up_nobody():
    scene = Scene(workers=2, CPU=2)
    scene.demand(2)
    first = only(scene.demand(1, class_key=1), AskRevoke)
    second = only(scene.later(10), AskRevoke)
    assert second.worker != first.worker


def test_nobody_is_asked_in_vain():
    scene = Scene(workers=2, CPU=2, GPU=1)
    scene.demand(1, class_key=0, GPU=1)
    worker = scene.machine.reports.task_leases()[0][0]
    scene.tell(WorkerBlocked(worker))
    scene.demand(1, class_key=1)
    assert all_of(scene.demand(1, class_key=2, GPU=1, CPU=2), AskRevoke) == []


def test_demand_of_its_own_class_does_not_revoke_a_lease():
    scene = Scene(workers=1)
    scene.demand(1)
    assert all_of(scene.demand(5), AskRevoke) == []


def test_a_lease_with_backlog_is_drained_only_after_its_time():
    scene = Scene(workers=1)
    lease = only(scene.demand(100), Grant)
    assert all_of(scene.demand(1, client=OTHER), AskRevoke) == []
    assert scene.machine.next_deadline_ms() == scene.now_ms + LEASE_HOLD_MS
    assert only(scene.later(LEASE_HOLD_MS), AskRevoke) == AskRevoke(lease.worker, lease.epoch, drain=True)
    effects = scene.tell(RevokeAnswered(lease.worker, lease.epoch, True))
    assert only(effects, Grant).client == OTHER


def test_draining_takes_one_lease_for_who_has_none_and_then_stops():
    scene = Scene(workers=3, CPU=3)
    scene.demand(100)
    scene.demand(50, client=OTHER)
    asked = only(scene.later(LEASE_HOLD_MS), AskRevoke)
    assert only(scene.tell(RevokeAnswered(asked.worker, asked.epoch, True)), Grant).client == OTHER
    assert all_of(scene.later(LEASE_HOLD_MS * 3), AskRevoke) == []


def test_a_drain_that_takes_long_lets_the_next_be_asked():
    scene = Scene(workers=2, CPU=2)
    scene.demand(100)
    scene.demand(1, client=OTHER)
    first = only(scene.later(LEASE_HOLD_MS), AskRevoke)
    assert scene.later(DRAIN_ANSWER_MS - 1) == []
    assert only(scene.later(1), AskRevoke).worker != first.worker


def test_an_answer_about_an_old_epoch_is_ignored():
    scene = Scene(workers=1)
    first = only(scene.demand(1), Grant)
    scene.demand(1, class_key=1)
    second = only(scene.tell(LeaseReturned(DRIVER, first.lease_id)), Grant)
    assert scene.tell(RevokeAnswered(first.worker, first.epoch, True)) == []
    assert scene.machine.reports.task_leases() == [(second.worker, second.epoch)]


def test_fractions_are_asked_back_for_a_whole_gpu():
    scene = Scene(workers=3, GPU=2, CPU=4)
    scene.demand(1, class_key=0, GPU=0.6)
    scene.demand(1, class_key=1, GPU=0.6)
    asked = all_of(scene.demand(1, class_key=2, GPU=1), AskRevoke)
    assert asked
    scene.tell(RevokeAnswered(asked[0].worker, asked[0].epoch, True))
    grants = [lease for lease in scene.machine.reports.queued() if lease.shape == {"GPU": 10_000}]
    assert grants == []


# --- blocking ---------------------------------------------------------------------------------------------------------


def test_a_hundred_nested_tasks_run_on_one_cpu():
    scene = Scene(workers=1)
    holder = only(scene.demand(1), Grant).worker
    for depth in range(100):
        scene.demand(1, client=holder)
        effects = scene.tell(WorkerBlocked(holder))
        assert only(effects, StartWorkers) == StartWorkers("", 1)
        holder = only(scene.tell(WorkerReady(b"n%d" % depth)), Grant).worker
    assert scene.machine.resources.available["CPU"] == 0


def test_a_worker_that_continues_takes_its_cpu_and_nobody_else_is_granted_it():
    scene = Scene(workers=3)
    first = only(scene.demand(1), Grant)
    second = only(scene.tell(WorkerBlocked(first.worker), *demand_events(OTHER, 2)), Grant)
    scene.tell(WorkerUnblocked(first.worker))
    assert scene.machine.resources.available["CPU"] == -10_000
    assert all_of(scene.tell(LeaseReturned(OTHER, second.lease_id)), Grant) == []
    assert only(scene.tell(LeaseReturned(DRIVER, first.lease_id)), Grant).client == OTHER


def demand_events(client: bytes, count: int) -> list:
    return [DemandSet(client, 0, SchedulingClass((("CPU", 10_000),)), count)]


def test_blocked_without_a_lease_means_nothing():
    scene = Scene(workers=1)
    assert scene.tell(WorkerBlocked(b"w0"), WorkerUnblocked(b"w0"), WorkerBlocked(b"nobody")) == []


# --- the dead ---------------------------------------------------------------------------------------------------------


def test_a_dead_workers_owner_hears_why_and_its_resources_are_free():
    scene = Scene(workers=1)
    lease = only(scene.demand(1), Grant)
    lost = only(scene.tell(WorkerDied(lease.worker, "SIGSEGV", -11)), LeaseLostEffect)
    assert lost == LeaseLostEffect(DRIVER, lease.lease_id, True, "SIGSEGV", -11)
    assert scene.machine.resources.available == scene.machine.resources.total


def test_nothing_is_granted_on_a_dead_or_leaving_worker():
    scene = Scene(workers=2, CPU=2)
    scene.tell(WorkerDied(b"w0"), WorkerLeaving(b"w1"))
    assert all_of(scene.demand(2), Grant) == []


def test_a_worker_that_leaves_ends_its_lease_at_once_and_frees_its_gpu_when_dead():
    scene = Scene(workers=2, GPU=1)
    lease = only(scene.demand(2, GPU=1), Grant)
    lost = only(scene.tell(WorkerLeaving(lease.worker)), LeaseLostEffect)
    assert not lost.died
    assert scene.machine.resources.available["GPU"] == 0
    assert only(scene.tell(WorkerDied(lease.worker)), Grant).assignment.instances == {"GPU": [[0, 10_000]]}


def test_a_broken_worker_is_killed_and_not_leased_again():
    scene = Scene(workers=1)
    lease = only(scene.demand(2), Grant)
    effects = scene.tell(LeaseReturned(DRIVER, lease.lease_id, broken=True))
    assert only(effects, KillWorker).worker == lease.worker
    assert all_of(effects, Grant) == []
    assert all_of(scene.tell(WorkerDied(lease.worker)), LeaseLostEffect) == []


def test_idle_workers_of_a_gone_client_serve_others_and_busy_ones_are_killed():
    scene = Scene(workers=2, CPU=2)
    idle, busy = all_of(scene.demand(2), Grant)
    scene.demand(1, client=OTHER)
    assert len(all_of(scene.tell(ClientGone(DRIVER)), AskRevoke)) == 2
    effects = scene.tell(RevokeAnswered(idle.worker, idle.epoch, True))
    assert only(effects, Grant).client == OTHER
    assert all_of(effects, LeaseLostEffect) == []
    assert only(scene.tell(RevokeAnswered(busy.worker, busy.epoch, False)), KillWorker).worker == busy.worker


def test_a_silent_worker_of_a_gone_client_is_killed_after_the_grace():
    scene = Scene(workers=1)
    lease = only(scene.demand(1), Grant)
    scene.tell(ClientGone(DRIVER))
    assert scene.machine.next_deadline_ms() == scene.now_ms + ORPHAN_GRACE_MS
    assert only(scene.later(ORPHAN_GRACE_MS), KillWorker).worker == lease.worker
    assert scene.machine.next_deadline_ms() is None


def test_a_gone_clients_demand_is_forgotten():
    scene = Scene(CPU=1)
    scene.demand(3)
    assert only(scene.tell(ClientGone(DRIVER)), StartWorkers) == StartWorkers("", 0)
    assert scene.machine.waiting() == []


def test_an_idle_worker_is_withdrawn_and_a_leased_one_is_not():
    scene = Scene(workers=2, CPU=1)
    lease = only(scene.demand(1), Grant)
    other = b"w0" if lease.worker == b"w1" else b"w1"
    assert scene.tell(WorkerWithdrawn(lease.worker)) == []
    assert only(scene.tell(WorkerWithdrawn(other)), KillWorker).graceful
    scene.tell(LeaseReturned(DRIVER, lease.lease_id))
    assert only(scene.demand(1), Grant).worker == lease.worker
    scene.tell(WorkerReady(other))
    assert scene.machine.worker_states()[0][1] in ("IDLE", "LEASED")


# --- actors -----------------------------------------------------------------------------------------------------------


def test_an_actor_needs_its_placement_to_start_and_holds_its_resources_while_alive():
    scene = Scene(workers=1, CPU=1)
    start = only(scene.tell(ActorRequested(actor(), 0)), StartActorOn)
    assert start.assignment.resources == {"CPU": 10_000}
    assert scene.machine.resources.available["CPU"] == 0
    scene.tell(ActorReady(start.worker))
    assert scene.machine.resources.available["CPU"] == 10_000


def test_an_actor_waits_for_a_cpu_and_takes_an_idle_lease():
    scene = Scene(workers=1, CPU=1)
    lease = only(scene.demand(1), Grant)
    asked = only(scene.tell(ActorRequested(actor(), 0)), AskRevoke)
    assert "actor Counter" in scene.machine.waiting()[0]
    effects = scene.tell(RevokeAnswered(asked.worker, asked.epoch, True))
    assert only(effects, StartActorOn).worker == lease.worker


def test_the_same_life_of_an_actor_is_placed_once():
    scene = Scene(workers=2, CPU=2)
    scene.tell(ActorRequested(actor(), 0))
    assert scene.tell(ActorRequested(actor(), 0)) == []


def test_a_queued_actor_that_is_cancelled_never_starts():
    scene = Scene(CPU=1)
    scene.tell(ActorRequested(actor(), 0))
    gone = only(scene.tell(ActorCancelled(b"a" * 16, 0, reason="killed")), ActorGone)
    assert not gone.started and gone.intended
    assert all_of(scene.tell(WorkerReady(b"w0")), StartActorOn) == []


def test_a_running_actor_that_is_cancelled_is_killed_and_gone_when_dead():
    scene = Scene(workers=1)
    start = only(scene.tell(ActorRequested(actor({"CPU": 1}), 3)), StartActorOn)
    assert scene.tell(ActorCancelled(b"a" * 16, 2)) == []
    assert only(scene.tell(ActorCancelled(b"a" * 16, 3, reason="ray.kill")), KillWorker).worker == start.worker
    gone = only(scene.tell(WorkerDied(start.worker, "killed")), ActorGone)
    assert (gone.incarnation, gone.started) == (3, True)
    assert scene.machine.resources.available == scene.machine.resources.total


def test_the_next_life_of_an_actor_ends_the_last_one():
    scene = Scene(workers=2, CPU=2)
    first = only(scene.tell(ActorRequested(actor(), 0)), StartActorOn)
    effects = scene.tell(ActorRequested(actor(), 1, restarts=1))
    assert only(effects, KillWorker).worker == first.worker
    second = only(effects, StartActorOn)
    assert second.worker != first.worker and second.restarts == 1
    assert only(scene.tell(WorkerDied(first.worker)), ActorGone).incarnation == 0
    assert scene.machine.actor_of(second.worker).incarnation == 1


def test_a_failed_actor_is_killed_and_its_death_is_no_news():
    scene = Scene(workers=1)
    start = only(scene.tell(ActorRequested(actor(), 0)), StartActorOn)
    assert only(scene.tell(ActorFailed(start.worker, "boom")), KillWorker).worker == start.worker
    assert scene.tell(WorkerDied(start.worker)) == []
    assert scene.machine.resources.available == scene.machine.resources.total


def test_an_actors_worker_is_never_leased_to_tasks():
    scene = Scene(workers=1, CPU=1)
    start = only(scene.tell(ActorRequested(actor(), 0)), StartActorOn)
    scene.tell(ActorReady(start.worker))
    assert scene.demand(1) == [StartWorkers("", 1)]


# --- reports ----------------------------------------------------------------------------------------------------------


def test_an_idle_lease_counts_as_available_in_reports_until_it_is_busy_again():
    scene = Scene(workers=1, CPU=2)
    lease = only(scene.demand(1), Grant)
    assert scene.machine.available_for_reports() == {"CPU": 10_000}
    effects = scene.machine.handle([LeaseProbed(lease.worker, lease.epoch, True)], scene.now_ms)
    assert ReportResources() in effects
    assert scene.machine.available_for_reports() == {"CPU": 20_000}
    scene.tell(LeaseProbed(lease.worker, lease.epoch, False))
    assert scene.machine.available_for_reports() == {"CPU": 10_000}


def test_what_is_oversubscribed_is_reported_as_zero():
    scene = Scene(workers=2)
    first = only(scene.demand(1), Grant)
    scene.tell(WorkerBlocked(first.worker), *demand_events(OTHER, 1))
    scene.tell(WorkerUnblocked(first.worker))
    assert scene.machine.available_for_reports() == {"CPU": 0}


def test_the_story_of_a_worker_names_its_leases():
    scene = Scene(workers=1)
    lease = only(scene.demand(1), Grant)
    story = scene.machine.story(lease.worker)
    assert "WorkerReady" in story and "Grant" in story


def test_an_actor_given_to_a_worker_that_was_leaving_begins_on_another_one():
    scene = Scene(workers=2)
    start = only(scene.tell(ActorRequested(actor({"CPU": 1}), 0)), StartActorOn)

    effects = scene.tell(WorkerDied(start.worker, "it left in good order"))

    assert only(effects, StartActorOn).worker != start.worker
    assert all_of(effects, ActorGone) == []


def test_an_actor_whose_process_crashed_before_it_began_is_gone():
    scene = Scene(workers=2)
    start = only(scene.tell(ActorRequested(actor({"CPU": 1}), 0)), StartActorOn)

    effects = scene.tell(WorkerDied(start.worker, "killed", -9))

    assert only(effects, ActorGone).incarnation == 0


def test_a_gpu_goes_to_a_worker_that_never_served_without_one():
    """CUDA reads once in a process which devices it may see."""
    scene = Scene(workers=1, CPU=1, GPU=1)
    lease = only(scene.demand(1, CPU=1), Grant)
    scene.tell(LeaseReturned(DRIVER, lease.lease_id))
    effects = scene.demand(1, class_key=1, CPU=1, GPU=1)
    assert not all_of(effects, Grant)
    assert only(effects, StartWorkers).count == 1
    assert only(scene.tell(WorkerReady(b"fresh")), Grant).worker == b"fresh"


def test_a_worker_that_served_a_gpu_serves_the_same_one_again_and_nothing_else():
    scene = Scene(workers=1, CPU=1, GPU=2)
    first = only(scene.demand(1, CPU=1, GPU=1), Grant)
    scene.tell(LeaseReturned(DRIVER, first.lease_id))
    again = only(scene.demand(1, CPU=1, GPU=1), Grant)
    assert (again.worker, again.assignment.instances) == (first.worker, first.assignment.instances)
    scene.tell(LeaseReturned(DRIVER, again.lease_id))
    assert not all_of(scene.demand(1, class_key=1, CPU=1), Grant)


def test_occupants_tell_who_has_each_worker_since_when_and_whether_its_work_may_run_again():
    scene = Scene(workers=3, CPU=3)
    once = SchedulingClass((("CPU", 10_000),), is_retriable=False)
    scene.tell(DemandSet(DRIVER, 1, once, 1, "charge"))
    scene.now_ms += 50
    scene.tell(ActorRequested(actor(), 0))

    found = {occupant.name: occupant for occupant in scene.machine.reports.occupants()}

    assert sorted(found) == ["", "actor Counter", "charge"] and found[""].owner == b""
    task, counter = found["charge"], found["actor Counter"]
    assert (task.owner, task.is_retriable, task.since_ms) == (DRIVER, False, 1_000)
    assert (counter.owner, counter.is_retriable, counter.since_ms) == (actor().owner.client_id, False, 1_050)


def test_actor_whose_worker_was_ended_for_want_of_memory_says_so():
    scene = Scene(workers=1)
    scene.tell(ActorRequested(actor(), 0))

    gone = only(scene.tell(WorkerDied(b"w0", "memory ran short", -9, out_of_memory=True)), ActorGone)

    assert (gone.code, gone.reason) == ("ActorOutOfMemoryError", "memory ran short")


def test_a_worker_that_stays_for_its_objects_holds_no_resources():
    scene = Scene(workers=1)
    lease = only(scene.demand(2), Grant)
    effects = scene.tell(WorkerLeaving(lease.worker, True))
    assert not only(effects, LeaseLostEffect).died
    assert only(effects, StartWorkers).count == 1
    assert only(scene.tell(WorkerReady(b"new")), Grant).worker == b"new"
    assert not all_of(scene.tell(WorkerDied(lease.worker)), LeaseLostEffect)
