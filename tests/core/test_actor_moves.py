"""Which actors that queue on a full node are called back, because another one has room."""

from __future__ import annotations

from raybook.base.facts import ACTOR_ALIVE, ACTOR_PENDING
from raybook.base.resources import shape_of
from raybook.base.specs import ActorSpec, Endpoint
from raybook.core.cluster.actor_moves import ActorMoves
from raybook.core.cluster.actor_record import ActorRecord
from raybook.core.cluster.resource_view import ResourceView

A, B = b"node-a..", b"node-b.."
CPU1 = shape_of({"CPU": 1})


class Scene:
    def __init__(self) -> None:
        self.actors: dict[bytes, ActorRecord] = {}
        self.view = ResourceView()
        self.moves = ActorMoves(self.actors.get)
        self.view.add(A, CPU1, {}, {})

    def actor(self, name: bytes, state=ACTOR_PENDING, **fields) -> bytes:
        owner = Endpoint(b"owner", A, "unix:x")
        spec = ActorSpec(name, b"job", "C", owner, {}, CPU1, b"", **fields)
        self.actors[name] = ActorRecord(spec=spec, state=state, node_id=A, incarnation=2)
        return name

    def report(self, *queued: bytes):
        return self.moves.reported(A, list(queued), self.view)


def test_as_many_as_find_room_together_are_called_back():
    scene = Scene()
    names = [scene.actor(b"%d" % index) for index in range(3)]
    assert scene.report(*names) == []
    scene.view.add(B, shape_of({"CPU": 2}), shape_of({"CPU": 2}), {})
    assert scene.report(*names) == [(A, b"0", 2), (A, b"1", 2)]


def test_an_actor_is_called_back_once_until_its_node_names_it_again():
    scene = Scene()
    name = scene.actor(b"x")
    scene.report(name)
    scene.view.add(B, CPU1, CPU1, {})
    assert scene.moves.reported(B, [], scene.view) == [(A, b"x", 2)]
    assert scene.moves.reported(B, [], scene.view) == []
    assert scene.report(name) == [(A, b"x", 2)]


def test_one_that_only_waits_for_its_process_stays():
    scene = Scene()
    name = scene.actor(b"x")
    scene.view.report(A, CPU1)
    scene.view.add(B, CPU1, CPU1, {})
    assert scene.report(name) == []


def test_one_that_has_begun_or_must_be_where_it_is_stays():
    scene = Scene()
    alive = scene.actor(b"alive", ACTOR_ALIVE)
    bound = scene.actor(b"bound", strategy=f"node:{A.hex()}")
    grouped = scene.actor(b"grouped", strategy="group:aabb:0")
    picky = scene.actor(b"picky", labels={"zone": "b"})
    scene.view.add(B, shape_of({"CPU": 8}), shape_of({"CPU": 8}), {"zone": "c"})
    assert scene.report(alive, bound, grouped, picky) == []


def test_labels_and_fallbacks_are_met_by_the_other_node():
    scene = Scene()
    name = scene.actor(b"picky", labels={"zone": "b"})
    scene.view.add(B, CPU1, CPU1, {"zone": "b"})
    assert scene.report(name) == [(A, b"picky", 2)]


def test_a_dead_nodes_actors_are_forgotten():
    scene = Scene()
    scene.report(scene.actor(b"x"))
    scene.moves.forget(A)
    scene.view.add(B, CPU1, CPU1, {})
    assert scene.moves.reported(B, [], scene.view) == []
