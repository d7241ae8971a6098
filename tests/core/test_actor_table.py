"""The actor table: lives, names and ends, one event at a time, then many at random."""

from __future__ import annotations

import hypothesis.strategies as st
from hypothesis import given, settings

from raybook.base.facts import ACTOR_ALIVE, ACTOR_DEAD, ACTOR_PENDING, ACTOR_RESTARTING
from raybook.base.specs import ActorSpec, Endpoint
from raybook.core.cluster import actor_events as on
from raybook.core.cluster.actor_table import ActorTable
from raybook.core.scheduling.policy import Choice
from raybook.protocol.messages.gcs import ActorStateReport

NODE_A = b"node-a.."
NODE_B = b"node-b.."
OWNER = Endpoint(b"owner...", NODE_A, "unix:/o")


class FirstNode:
    """Chooses the first node that has not refused, as long as there is one."""

    def __init__(self, *nodes: bytes) -> None:
        self.nodes = list(nodes)

    def __call__(self, spec: ActorSpec, refused: dict[bytes, str]) -> Choice:
        for node in self.nodes:
            if node not in refused:
                return Choice(node)
        return Choice(None, "the cluster has {CPU: 2}.")


def spec_of(number: int = 1, **changes: object) -> ActorSpec:
    values = {
        "actor_id": b"actor%03d" % number,
        "job_id": b"job.....",
        "class_name": "Counter",
        "owner": OWNER,
        "resources": {},
        "placement": {"CPU": 10_000},
        "creation": b"closure",
        "namespace": "ns",
    }
    return ActorSpec(**{**values, **changes})


def create(table: ActorTable, spec: ActorSpec, get_if_exists: bool = False) -> list:
    effects = table.handle([on.CreationRequested(7, spec, get_if_exists)], 0)
    table.check_invariants()
    return effects


def report(table: ActorTable, spec: ActorSpec, state: str, incarnation: int = 0, **fields: object) -> list:
    message = ActorStateReport(spec.actor_id, incarnation, state, **fields)
    effects = table.handle([on.StateReported(message)], 1)
    table.check_invariants()
    return effects


def bring_alive(table: ActorTable, spec: ActorSpec, incarnation: int = 0) -> list:
    endpoint = Endpoint(b"worker..", NODE_A, "unix:/w")
    return report(table, spec, ACTOR_ALIVE, incarnation, endpoint=endpoint, pid=42)


def of_kind(effects: list, kind: type) -> list:
    return [effect for effect in effects if isinstance(effect, kind)]


def state_of(table: ActorTable, spec: ActorSpec) -> str:
    return table.info(spec.actor_id).state


def test_created_actor_is_placed_persisted_and_answered():
    table = ActorTable(FirstNode(NODE_A))
    effects = create(table, spec_of())
    (place,) = of_kind(effects, on.Place)
    assert (place.node_id, place.incarnation, place.restarts) == (NODE_A, 0, 0)
    assert of_kind(effects, on.PersistActor)
    assert of_kind(effects, on.AnswerCreation) == [on.AnswerCreation(7)]
    assert state_of(table, spec_of()) == ACTOR_PENDING


def test_alive_actor_is_published_with_its_endpoint_to_those_who_watch():
    table = ActorTable(FirstNode(NODE_A))
    create(table, spec_of())
    table.handle([on.WatchRequested(NODE_B, (spec_of().actor_id,))], 0)
    (publish,) = of_kind(bring_alive(table, spec_of()), on.Publish)
    assert publish.nodes == (NODE_B,)
    assert publish.info.endpoint.address == "unix:/w"
    assert publish.info.pid == 42


def test_taken_name_is_refused_with_an_error_the_creator_can_act_on():
    table = ActorTable(FirstNode(NODE_A))
    create(table, spec_of(1, name="x"))
    (refusal,) = of_kind(create(table, spec_of(2, name="x")), on.RefuseCreation)
    assert refusal.code == "ActorAlreadyExistsError"
    assert "The name 'x' is already taken" in refusal.text


def test_same_name_in_another_namespace_is_free():
    table = ActorTable(FirstNode(NODE_A))
    create(table, spec_of(1, name="x"))
    effects = create(table, spec_of(2, name="x", namespace="other"))
    assert not of_kind(effects, on.RefuseCreation)


def test_get_if_exists_returns_the_living_actor_without_its_creation():
    table = ActorTable(FirstNode(NODE_A))
    create(table, spec_of(1, name="x", handle=b"handle"))
    (answer,) = of_kind(create(table, spec_of(2, name="x"), get_if_exists=True), on.AnswerCreation)
    assert answer.existing.actor_id == spec_of(1).actor_id
    assert (answer.existing.creation, answer.existing.handle) == (b"", b"handle")


def test_name_is_free_again_when_its_actor_is_dead():
    table = ActorTable(FirstNode(NODE_A))
    create(table, spec_of(1, name="x"))
    table.handle([on.KillRequested(spec_of(1).actor_id)], 1)
    assert not of_kind(create(table, spec_of(2, name="x")), on.RefuseCreation)
    assert table.by_name("x", "ns").actor_id == spec_of(2).actor_id


def test_repeated_creation_request_is_answered_without_a_second_actor():
    table = ActorTable(FirstNode(NODE_A))
    create(table, spec_of(1, name="x"))
    effects = create(table, spec_of(1, name="x"))
    assert effects == [on.AnswerCreation(7)]


def test_crash_restarts_until_max_restarts_and_then_kills():
    table = ActorTable(FirstNode(NODE_A))
    spec = spec_of(max_restarts=1)
    create(table, spec)
    bring_alive(table, spec)
    (place,) = of_kind(report(table, spec, ACTOR_DEAD, 0, reason="signal 9"), on.Place)
    assert place.incarnation == 1
    assert state_of(table, spec) == ACTOR_RESTARTING
    assert table.info(spec.actor_id).restarts_left == 0
    bring_alive(table, spec, 1)
    effects = report(table, spec, ACTOR_DEAD, 1, reason="signal 9 again")
    assert not of_kind(effects, on.Place)
    assert table.info(spec.actor_id).death.endswith("its worker process has died. signal 9 again")


def test_max_restarts_minus_one_restarts_for_ever():
    table = ActorTable(FirstNode(NODE_A))
    spec = spec_of(max_restarts=-1)
    create(table, spec)
    for incarnation in range(50):
        bring_alive(table, spec, incarnation)
        report(table, spec, ACTOR_DEAD, incarnation)
    assert table.info(spec.actor_id).incarnation == 50
    assert table.info(spec.actor_id).restarts_left == -1


def test_late_report_of_an_old_incarnation_is_dropped():
    table = ActorTable(FirstNode(NODE_A))
    spec = spec_of(max_restarts=5)
    create(table, spec)
    report(table, spec, ACTOR_DEAD, 0)
    assert bring_alive(table, spec, 0) == []
    assert report(table, spec, ACTOR_DEAD, 0) == []
    assert state_of(table, spec) == ACTOR_RESTARTING


def test_failed_creation_is_final_and_carries_the_exception():
    table = ActorTable(FirstNode(NODE_A))
    spec = spec_of(max_restarts=5)
    create(table, spec)
    report(table, spec, ACTOR_DEAD, 0, creation_failed=True, payload=b"pickle", reason="ValueError: no")
    info = table.info(spec.actor_id)
    assert (info.state, info.death_payload, info.death) == (ACTOR_DEAD, b"pickle", "ValueError: no")


def test_intended_exit_is_not_restarted():
    table = ActorTable(FirstNode(NODE_A))
    spec = spec_of(max_restarts=-1)
    create(table, spec)
    bring_alive(table, spec)
    report(table, spec, ACTOR_DEAD, 0, intended=True, reason="exit_actor()")
    assert state_of(table, spec) == ACTOR_DEAD


def test_kill_stops_the_process_and_publishes_why():
    table = ActorTable(FirstNode(NODE_A))
    create(table, spec_of())
    bring_alive(table, spec_of())
    effects = table.handle([on.KillRequested(spec_of().actor_id)], 1)
    (stop,) = of_kind(effects, on.StopOn)
    assert (stop.node_id, stop.incarnation, stop.graceful) == (NODE_A, 0, False)
    assert "killed by `ray.kill`" in of_kind(effects, on.Publish)[0].info.death


def test_kill_with_restart_begins_a_new_life_at_once():
    table = ActorTable(FirstNode(NODE_A))
    spec = spec_of(max_restarts=1)
    create(table, spec)
    bring_alive(table, spec)
    effects = table.handle([on.KillRequested(spec.actor_id, no_restart=False)], 1)
    assert [type(e) for e in effects if isinstance(e, (on.StopOn, on.Place))] == [on.StopOn, on.Place]
    assert report(table, spec, ACTOR_DEAD, 0) == []
    assert state_of(table, spec) == ACTOR_RESTARTING


def test_graceful_end_keeps_the_actor_alive_for_its_calls_but_frees_its_name():
    table = ActorTable(FirstNode(NODE_A))
    spec = spec_of(name="x", max_restarts=-1)
    create(table, spec)
    bring_alive(table, spec)
    effects = table.handle([on.KillRequested(spec.actor_id, graceful=True, reason="no handle left")], 1)
    assert of_kind(effects, on.StopOn)[0].graceful
    assert state_of(table, spec) == ACTOR_ALIVE
    assert table.by_name("x", "ns") is None
    report(table, spec, ACTOR_DEAD, 0, reason="done")
    assert state_of(table, spec) == ACTOR_DEAD


def test_graceful_end_of_a_pending_actor_waits_until_it_lives():
    table = ActorTable(FirstNode(NODE_A))
    create(table, spec_of())
    effects = table.handle([on.KillRequested(spec_of().actor_id, graceful=True)], 1)
    assert not of_kind(effects, on.StopOn)
    assert of_kind(bring_alive(table, spec_of()), on.StopOn)[0].graceful


def test_owner_gone_ends_its_actors_but_not_detached_ones():
    table = ActorTable(FirstNode(NODE_A))
    create(table, spec_of(1))
    create(table, spec_of(2, detached=True, name="kept"))
    effects = table.handle([on.OwnerLost(OWNER.client_id, "signal 9")], 1)
    assert [stop.actor_id for stop in of_kind(effects, on.StopOn)] == [spec_of(1).actor_id]
    assert state_of(table, spec_of(1)) == ACTOR_DEAD
    assert state_of(table, spec_of(2)) == ACTOR_PENDING
    assert "signal 9" in table.info(spec_of(1).actor_id).death


def test_ended_job_ends_its_actors_and_gets_no_new_ones():
    table = ActorTable(FirstNode(NODE_A))
    create(table, spec_of(1))
    table.handle([on.JobEnded(b"job.....")], 1)
    assert state_of(table, spec_of(1)) == ACTOR_DEAD
    (refusal,) = of_kind(create(table, spec_of(2)), on.RefuseCreation)
    assert "its job" in refusal.text


def test_infeasible_actor_waits_visibly_and_is_placed_when_a_node_joins():
    nodes = FirstNode()
    table = ActorTable(nodes)
    effects = create(table, spec_of())
    assert not of_kind(effects, on.Place)
    assert of_kind(effects, on.Publish)[0].info.waiting == "the cluster has {CPU: 2}."
    assert "the cluster has {CPU: 2}." in table.waiting()[0]
    nodes.nodes.append(NODE_B)
    effects = table.handle([on.NodeJoined(NODE_B)], 2)
    assert of_kind(effects, on.Place)[0].node_id == NODE_B
    assert table.waiting() == []


def test_refused_placement_tries_the_next_node_in_the_same_life():
    table = ActorTable(FirstNode(NODE_A, NODE_B))
    create(table, spec_of())
    refusal = on.PlacementAnswered(spec_of().actor_id, 0, NODE_A, accepted=False, reason="draining")
    (place,) = of_kind(table.handle([refusal], 1), on.Place)
    assert (place.node_id, place.incarnation) == (NODE_B, 0)
    table.check_invariants()


def test_node_death_restarts_living_actors_elsewhere_and_costs_pending_ones_nothing():
    nodes = FirstNode(NODE_A)
    table = ActorTable(nodes)
    create(table, spec_of(1, max_restarts=1, owner=Endpoint(b"far.....", NODE_B, "unix:/f")))
    create(table, spec_of(2, owner=Endpoint(b"far.....", NODE_B, "unix:/f")))
    bring_alive(table, spec_of(1))
    nodes.nodes = [NODE_B]
    effects = table.handle([on.NodeLost(NODE_A, "no answer")], 2)
    table.check_invariants()
    assert [(p.node_id, p.incarnation) for p in of_kind(effects, on.Place)] == [(NODE_B, 1), (NODE_B, 1)]
    assert table.info(spec_of(1).actor_id).restarts_left == 0
    assert state_of(table, spec_of(2)) == ACTOR_PENDING


def test_node_death_ends_actors_whose_owner_lived_there():
    table = ActorTable(FirstNode(NODE_B))
    create(table, spec_of(1, owner=Endpoint(b"owner...", NODE_A, "unix:/o")))
    table.handle([on.NodeLost(NODE_A, "no answer")], 1)
    assert state_of(table, spec_of(1)) == ACTOR_DEAD


def test_handle_that_is_faster_than_its_creation_finds_the_actor_pending():
    table = ActorTable(FirstNode(NODE_A))
    table.handle([on.WatchRequested(NODE_B, (spec_of().actor_id,))], 0)
    assert state_of(table, spec_of()) == ACTOR_PENDING
    (publish,) = of_kind(create(table, spec_of()), on.Publish)
    assert publish.nodes == (NODE_B,)
    assert table.next_deadline_ms() is None


def test_watched_actor_nobody_creates_is_declared_dead_in_time():
    table = ActorTable(FirstNode(NODE_A))
    table.handle([on.WatchRequested(NODE_B, (b"unknown",))], 100)
    deadline = table.next_deadline_ms()
    assert table.handle([], deadline - 1) == []
    (publish,) = table.handle([], deadline)
    assert (publish.info.state, publish.nodes) == (ACTOR_DEAD, (NODE_B,))
    assert "not known" in publish.info.death
    table.check_invariants()


def test_dead_actors_are_forgotten_oldest_first():
    table = ActorTable(FirstNode(NODE_A), dead_max=2)
    for number in range(4):
        create(table, spec_of(number))
        table.handle([on.KillRequested(spec_of(number).actor_id)], 1)
    table.check_invariants()
    assert [info.actor_id for info in table.rows()] == [spec_of(2).actor_id, spec_of(3).actor_id]
    assert "not known" in table.info(spec_of(0).actor_id).death


def test_inventory_after_a_gcs_restart_finds_the_dead():
    first = ActorTable(FirstNode(NODE_A))
    create(first, spec_of(1))
    create(first, spec_of(2, max_restarts=1))
    bring_alive(first, spec_of(1))
    bring_alive(first, spec_of(2))
    second = ActorTable(FirstNode(NODE_A))
    second.load([first.record(spec_of(1).actor_id), first.record(spec_of(2).actor_id)])
    second.check_invariants()
    second.handle([on.InventoryTaken(NODE_A, (spec_of(1).actor_id,))], 5)
    assert state_of(second, spec_of(1)) == ACTOR_ALIVE
    assert state_of(second, spec_of(2)) == ACTOR_RESTARTING


def test_an_actor_that_was_killed_as_the_gcs_went_down_is_stopped_when_its_node_still_has_it():
    first = ActorTable(FirstNode(NODE_A))
    create(first, spec_of(1))
    bring_alive(first, spec_of(1))
    first.handle([on.KillRequested(spec_of(1).actor_id)], 2)
    second = ActorTable(FirstNode(NODE_A))
    second.load([first.record(spec_of(1).actor_id)])

    (stop,) = second.handle([on.InventoryTaken(NODE_A, (spec_of(1).actor_id,))], 5)

    assert (stop.node_id, stop.actor_id, stop.incarnation, stop.graceful) == (NODE_A, spec_of(1).actor_id, 0, False)


def test_story_tells_every_step():
    table = ActorTable(FirstNode(NODE_A))
    create(table, spec_of())
    bring_alive(table, spec_of())
    table.handle([on.KillRequested(spec_of().actor_id)], 9)
    story = table.story(spec_of().actor_id)
    assert [word in story for word in ("created", "placed on node", "alive with pid 42", "9 ms: dead")] == [True] * 4


actor_numbers = st.integers(0, 4)
nodes = st.sampled_from([NODE_A, NODE_B])
events = st.one_of(
    st.builds(
        lambda n, name, detached, restarts, node, again: on.CreationRequested(
            n,
            spec_of(
                n,
                name=name,
                detached=detached,
                max_restarts=restarts,
                owner=Endpoint(b"owner%03d" % (n % 2), node, "unix:/o"),
                job_id=b"job%05d" % (n % 3),
            ),
            again,
        ),
        st.integers(0, 30),
        st.sampled_from(["", "x", "y"]),
        st.booleans(),
        st.integers(-1, 2),
        nodes,
        st.booleans(),
    ),
    st.builds(
        lambda n, incarnation, state, intended: on.StateReported(
            ActorStateReport(b"actor%03d" % n, incarnation, state, intended=intended)
        ),
        actor_numbers,
        st.integers(0, 4),
        st.sampled_from([ACTOR_ALIVE, ACTOR_DEAD]),
        st.booleans(),
    ),
    st.builds(
        lambda n, no_restart, graceful: on.KillRequested(b"actor%03d" % n, no_restart, graceful),
        actor_numbers,
        st.booleans(),
        st.booleans(),
    ),
    st.builds(
        lambda n, i, node, accepted: on.PlacementAnswered(b"actor%03d" % n, i, node, accepted, "no"),
        actor_numbers,
        st.integers(0, 4),
        nodes,
        st.booleans(),
    ),
    st.builds(lambda n: on.OwnerLost(b"owner%03d" % n), st.integers(0, 1)),
    st.builds(lambda n: on.JobEnded(b"job%05d" % n), st.integers(0, 2)),
    st.builds(lambda node: on.NodeLost(node, "gone"), nodes),
    st.builds(on.NodeJoined, nodes),
    st.builds(lambda node, n: on.WatchRequested(node, (b"actor%03d" % n,)), nodes, actor_numbers),
    st.builds(lambda node, n: on.InventoryTaken(node, (b"actor%03d" % n,)), nodes, actor_numbers),
)


@given(st.lists(events, max_size=60), st.booleans())
@settings(max_examples=300, deadline=None)
def test_any_sequence_of_events_keeps_the_invariants_and_every_change_is_persisted(sequence, has_nodes):
    table = ActorTable(FirstNode(NODE_A, NODE_B) if has_nodes else FirstNode(), dead_max=3)
    incarnations: dict[bytes, int] = {}
    for step, event in enumerate(sequence):
        effects = table.handle([event], step * 700)
        table.check_invariants()
        persisted = {effect.actor_id for effect in of_kind(effects, on.PersistActor)}
        for publish in of_kind(effects, on.Publish):
            if not publish.info.class_name:
                continue  # An actor that was watched and never made.
            assert publish.info.actor_id in persisted
        for forgotten in of_kind(effects, on.ForgetActor):
            incarnations.pop(forgotten.actor_id, None)
        for place in of_kind(effects, on.Place):
            actor_id = place.spec.actor_id
            assert place.incarnation >= incarnations.get(actor_id, 0)
            incarnations[actor_id] = place.incarnation
