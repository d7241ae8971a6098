"""The autoscaler's moves: what it asks for when, and what becomes of what it asked for."""

from __future__ import annotations

import pytest

from raybook.base.resources import shape_of
from raybook.base.specs import Bundle
from raybook.core.autoscaler import events as ev
from raybook.core.autoscaler.machine import Autoscaler
from raybook.core.autoscaler.settings import NodeType, Settings, check_settings
from raybook.protocol.messages.scaling import INSTANCE_LABEL, ClusterLoad, GroupLoad, NodeActivity, ShapeCount

CPU1 = shape_of({"CPU": 1})
IDLE_MS = 60_000


class Scene:
    """The machine, and a world of one's own making: what the provider lists and what nodes the GCS knows."""

    def __init__(self, *types: NodeType, **settings) -> None:
        types = types or (NodeType("worker", shape_of({"CPU": 2}), max_nodes=3),)
        values = {"max_nodes": 100, "idle_timeout_ms": IDLE_MS, "patience_ms": 0, **settings}
        self.machine = Autoscaler(Settings(types, **values))
        self.now_ms = 1_000_000
        self.provided: list[ev.ProvidedNode] = []
        self.nodes = {b"head....": NodeActivity(b"head....", True, total=CPU1, available={}, busy="1 driver on it")}
        self.waiting: list[ShapeCount] = []
        self.groups: list[GroupLoad] = []
        self.requested: list[Bundle] = []

    def look(self, *events, after_ms: int = 100):
        """One look at everything; the effects but Tell."""
        self.now_ms += after_ms
        for node in self.nodes.values():
            if not node.busy:
                node.idle_ms += after_ms
        load = ClusterLoad(list(self.nodes.values()), self.waiting, self.groups, self.requested)
        seen = [*events, ev.InstancesSeen(tuple(self.provided)), ev.ClusterSeen(load)]
        return self.handle(*seen)

    def handle(self, *events):
        effects = self.machine.handle(events, self.now_ms)
        self.machine.check_invariants()
        self.told = [effect for effect in effects if isinstance(effect, ev.Tell)]
        return [effect for effect in effects if not isinstance(effect, ev.Tell)]

    def wait_for(self, count: int, shape=CPU1) -> None:
        self.waiting = [ShapeCount(shape, count)] if count else []

    def provide(self, *names: str, node_type: str = "worker", request: str = "") -> None:
        self.provided += [ev.ProvidedNode(name, node_type, request) for name in names]

    def join(self, name: str, resources=None, **fields) -> NodeActivity:
        total = shape_of(resources or {"CPU": 2})
        node_id = name.encode().ljust(8, b".")
        node = NodeActivity(node_id, False, True, total, dict(total), {INSTANCE_LABEL: name}, **fields)
        self.nodes[node_id] = node
        return node

    def node(self, name: str) -> NodeActivity:
        return self.nodes[name.encode().ljust(8, b".")]

    def have(self, *names: str) -> None:
        """These nodes are there and idle."""
        self.provide(*names)
        for name in names:
            self.join(name)
        assert self.look() == []


def test_nothing_is_asked_of_a_provider_that_has_not_said_what_it_has():
    scene = Scene()
    scene.wait_for(3)
    load = ClusterLoad(list(scene.nodes.values()), scene.waiting)
    assert scene.handle(ev.ClusterSeen(load)) == []
    assert scene.look() == [ev.CreateNodes("r1", "worker", 2)]


def test_what_was_asked_for_is_not_asked_for_again():
    scene = Scene()
    scene.wait_for(3)
    assert scene.look() == [ev.CreateNodes("r1", "worker", 2)]
    assert scene.look() == []
    scene.provide("a", "b", request="r1")
    assert scene.look() == []
    scene.join("a"), scene.join("b")
    assert scene.look() == []
    assert scene.machine.statistics().running == 2


def test_pods_without_a_request_are_taken_for_the_oldest_of_their_type():
    scene = Scene()
    scene.wait_for(1)
    scene.look()
    scene.provide("pod-1")
    scene.look()
    assert scene.machine.statistics() == type(scene.machine.statistics())(0, 1, 0, 0, 0, 0)


def test_nodes_that_were_there_before_are_taken_in():
    scene = Scene()
    scene.have("old")
    scene.wait_for(2)
    assert scene.look() == []


def test_a_moment_of_waiting_is_not_enough():
    scene = Scene(patience_ms=500)
    scene.wait_for(1)
    assert scene.look() == []
    scene.wait_for(0)
    assert scene.look(after_ms=600) == []
    scene.wait_for(1)
    assert scene.look() == []
    assert scene.look(after_ms=400) == []
    assert scene.look(after_ms=200) == [ev.CreateNodes("r1", "worker", 1)]


def test_busy_nodes_with_nothing_waiting_add_nothing():
    scene = Scene()
    scene.have("a")
    scene.node("a").busy = "2 tasks on it"
    scene.node("a").available = {}
    for _ in range(20):
        assert scene.look(after_ms=10_000) == []


def test_an_idle_node_goes_after_its_time_when_it_agrees():
    scene = Scene()
    scene.have("a")
    assert scene.look(after_ms=IDLE_MS - 1_000) == []
    (asked,) = scene.look(after_ms=1_000)
    assert asked == ev.RetireIfIdle("a", b"a.......", 1, "idle for 60 s")
    assert scene.look() == []
    assert scene.handle(ev.RetireAnswered("a", 1, True)) == []
    scene.node("a").alive = False
    assert scene.look() == [ev.TerminateNode("a", "idle for 60 s")]
    scene.provided.clear()
    assert scene.look() == []
    assert scene.machine.statistics().ending == 0


def test_a_node_that_does_not_agree_stays_and_is_asked_again_later():
    scene = Scene()
    scene.have("a")
    (asked,) = scene.look(after_ms=IDLE_MS)
    scene.handle(ev.RetireAnswered("a", asked.attempt, False, "it has 1 × task"))
    assert scene.look() == []
    assert scene.machine.statistics().running == 1
    (again,) = scene.look(after_ms=11_000)
    assert again.attempt == 2


def test_late_answer_to_an_earlier_question_is_ignored():
    scene = Scene()
    scene.have("a")
    scene.look(after_ms=IDLE_MS)
    assert scene.look(after_ms=11_000) == []
    assert scene.machine.statistics().running == 1, "no answer within ten seconds"
    scene.handle(ev.RetireAnswered("a", 1, True))
    assert scene.machine.statistics().running == 1


def test_a_node_that_ends_by_itself_after_agreeing_is_no_failure():
    scene = Scene()
    scene.have("a")
    scene.look(after_ms=IDLE_MS)
    scene.handle(ev.RetireAnswered("a", 1, True))
    scene.provided.clear()
    scene.look()
    assert [told.severity for told in scene.told] == [ev.INFO]
    assert scene.machine.status().failures == []


def test_idle_node_stays_while_something_waits_for_it():
    scene = Scene()
    scene.have("a")
    scene.wait_for(1)
    assert scene.look(after_ms=2 * IDLE_MS) == []


def test_least_number_is_kept():
    scene = Scene(NodeType("worker", shape_of({"CPU": 2}), min_nodes=1, max_nodes=3))
    scene.have("a", "b")
    (asked,) = scene.look(after_ms=IDLE_MS)
    assert isinstance(asked, ev.RetireIfIdle)
    scene.handle(ev.RetireAnswered(asked.instance_id, asked.attempt, True))
    assert scene.look(after_ms=IDLE_MS) == []


def test_request_holds_nodes_that_do_nothing():
    scene = Scene()
    scene.requested = [Bundle(CPU1)] * 3
    assert scene.look() == [ev.CreateNodes("r1", "worker", 1)]
    scene.provide("a", request="r1")
    scene.join("a")
    assert scene.look() == []
    assert scene.look(after_ms=2 * IDLE_MS) == []
    scene.requested = []
    (asked,) = scene.look()
    assert isinstance(asked, ev.RetireIfIdle)


def test_head_is_never_removed():
    scene = Scene()
    head = scene.nodes[b"head...."]
    head.busy = ""
    assert scene.look(after_ms=10 * IDLE_MS) == []


def test_pauses_after_failed_launches_double_up_to_a_bound_and_end_with_a_node_that_joins():
    scene = Scene(backoff_ms=1_000, backoff_ms_max=3_000)
    scene.wait_for(1)
    (asked,) = scene.look()
    pauses = []
    for _ in range(4):
        scene.handle(ev.CreateAnswered(asked.request, "no quota"))
        waited_ms = 0
        effects = []
        while not effects:
            effects = scene.look(after_ms=100)
            waited_ms += 100
        (asked,) = effects
        pauses.append(waited_ms)
    assert pauses == [1_000, 2_000, 3_000, 3_000]
    assert scene.machine.status().failures[0] == "1 × worker: no quota"
    scene.provide("a", request=asked.request)
    scene.join("a")
    scene.look()
    assert scene.machine._resting == {}


def test_several_failures_of_one_request_are_one_pause():
    scene = Scene(backoff_ms=1_000)
    scene.wait_for(6)
    (asked,) = scene.look()
    assert asked.count == 3
    for _ in range(3):
        scene.handle(ev.LaunchFailed("worker", 1, "it broke", asked.request))
    assert scene.look(after_ms=900) == []
    assert scene.look(after_ms=200) == [ev.CreateNodes("r2", "worker", 3)]


def test_another_type_is_taken_while_one_rests():
    scene = Scene(
        NodeType("spot", shape_of({"CPU": 2}), max_nodes=3),
        NodeType("firm", shape_of({"CPU": 2, "firm": 1}), max_nodes=3),
    )
    scene.wait_for(1)
    assert scene.look() == [ev.CreateNodes("r1", "spot", 1)]
    scene.handle(ev.CreateAnswered("r1", "none left"))
    assert scene.look() == [ev.CreateNodes("r2", "firm", 1)]


def test_what_the_provider_never_lists_is_given_up():
    scene = Scene(launch_timeout_ms=5_000)
    scene.wait_for(1)
    scene.look()
    assert scene.look(after_ms=5_000) == []
    assert "made no worker within 5.0 s" in scene.machine.status().failures[0]
    assert scene.look(after_ms=5_000) == [ev.CreateNodes("r2", "worker", 1)]


def test_a_node_that_never_joins_is_taken_down():
    scene = Scene(join_timeout_ms=5_000)
    scene.wait_for(1)
    scene.look()
    scene.provide("a", request="r1")
    scene.look()
    (ended,) = scene.look(after_ms=5_000)
    assert isinstance(ended, ev.TerminateNode) and "not joined" in ended.why


def test_a_node_that_vanishes_before_it_joins_is_a_failure():
    scene = Scene()
    scene.wait_for(1)
    scene.look()
    scene.provide("a", request="r1")
    scene.look()
    scene.provided.clear()
    assert scene.look() == []
    assert scene.machine.status().failures == ["a vanished before it joined"]


def test_a_node_that_dies_is_taken_down_and_replaced_when_it_is_gone():
    scene = Scene(NodeType("worker", shape_of({"CPU": 2}), max_nodes=1))
    scene.have("a")
    scene.node("a").alive = False
    scene.wait_for(1)
    assert scene.look() == [ev.TerminateNode("a", "its node died: ")]
    assert scene.look() == [], "it still costs"
    scene.provided.clear()
    assert scene.look() == [ev.CreateNodes("r1", "worker", 1)]


def test_a_node_that_the_gcs_does_not_mention_is_not_dead_at_once():
    scene = Scene(absence_ms=30_000)
    scene.have("a")
    gone = scene.nodes.pop(b"a.......")
    assert scene.look(after_ms=10_000) == []
    scene.nodes[b"a......."] = gone
    assert scene.look(after_ms=10_000) == []
    del scene.nodes[b"a......."]
    assert scene.look(after_ms=10_000) == []
    (ended,) = scene.look(after_ms=30_000)
    assert isinstance(ended, ev.TerminateNode)


def test_what_is_not_taken_down_is_asked_for_again():
    scene = Scene(end_timeout_ms=10_000, backoff_ms=1_000)
    scene.have("a")
    scene.node("a").alive = False
    (ended,) = scene.look()
    assert scene.look() == []
    assert scene.look(after_ms=10_000) == [ended]
    scene.handle(ev.TerminateAnswered("a", "not allowed"))
    assert scene.look(after_ms=4_000) == [ended]


def test_speed_holds_up_what_waits_and_not_what_is_least():
    scene = Scene(NodeType("worker", shape_of({"CPU": 1}), min_nodes=8, max_nodes=50))
    assert scene.look() == [ev.CreateNodes("r1", "worker", 8)]
    names = [f"n{index}" for index in range(8)]
    scene.provide(*names, request="r1")
    scene.wait_for(30)
    assert scene.look() == [], "eight are on their way"
    for name in names:
        scene.join(name, {"CPU": 1}).available = {}
    assert scene.look() == [ev.CreateNodes("r2", "worker", 8)]
    assert "upscaling_speed" in scene.machine.status().unmet[-1]


def test_provider_that_cannot_say_what_it_has_stops_launches_only():
    scene = Scene()
    scene.have("a")
    scene.wait_for(5)
    scene.node("a").available = {}
    scene.now_ms += 100
    load = ClusterLoad(list(scene.nodes.values()), scene.waiting)
    assert scene.handle(ev.ProviderFailed("timeout"), ev.ClusterSeen(load)) == []
    assert scene.machine.status().trouble == "timeout"
    assert scene.look() == [ev.CreateNodes("r1", "worker", 2)]
    assert scene.machine.status().trouble == ""


def test_lowered_bounds_remove_idle_nodes_at_once_and_busy_ones_later():
    scene = Scene()
    scene.have("a", "b", "c")
    scene.node("a").busy = "1 task on it"
    lower = Settings((NodeType("worker", shape_of({"CPU": 2}), max_nodes=0),), 100, patience_ms=0)
    effects = scene.look(ev.SettingsChanged(lower))
    assert sorted(effect.instance_id for effect in effects) == ["b", "c"]


def test_impossible_work_is_told_once():
    scene = Scene()
    scene.wait_for(1, shape_of({"GPU": 1}))
    scene.look()
    assert [told.severity for told in scene.told] == [ev.WARNING]
    assert "no node can hold that" in scene.told[0].text
    scene.look()
    assert scene.told == []
    scene.wait_for(0)
    scene.look()
    scene.wait_for(1, shape_of({"GPU": 1}))
    scene.look()
    assert len(scene.told) == 1


def test_demand_of_several_nodes_for_one_shape_is_added_up():
    scene = Scene()
    scene.waiting = [ShapeCount(CPU1, 2), ShapeCount(dict(CPU1), 2)]
    assert scene.look() == [ev.CreateNodes("r1", "worker", 2)]


def test_status_says_what_is_there_and_why():
    scene = Scene()
    scene.have("a")
    scene.node("a").busy = "2 tasks on it"
    scene.node("a").available = {}
    scene.wait_for(100)
    scene.look()
    status = scene.machine.status()
    assert status.active == {"worker": 1}
    assert status.pending == ["2 × worker, asked for 0.0 s ago"]
    assert status.bounds == ["worker: 3 of 0 to 3"]
    assert status.decisions == ["Adds 2 × worker, because 4 × {CPU: 1} do not fit on the nodes there are."]
    assert status.unmet == ["96 tasks or actors of {CPU: 1} wait: there are 3 of type worker, its largest number."]
    assert status.notes == ["a stays: 2 tasks on it."]


def test_story_tells_the_life_of_an_instance():
    scene = Scene()
    scene.have("a")
    story = scene.machine.story(b"a")
    assert "Instance a is RUNNING." in story and "joined as node" in story


@pytest.mark.parametrize(
    ("types", "most", "word"),
    [
        ((NodeType("a", {}, min_nodes=2, max_nodes=1),), 5, "min_workers 2"),
        ((NodeType("a", {}), NodeType("a", {})), 5, "names of their own"),
        ((NodeType("a", {}, min_nodes=3, max_nodes=3),), 2, "add up to 3"),
    ],
)
def test_settings_that_make_no_sense_are_refused(types, most, word):
    with pytest.raises(ValueError, match=word):
        check_settings(Settings(types, most))
