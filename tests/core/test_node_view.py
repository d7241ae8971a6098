"""The node view: what one node knows of the others, by deltas, through late answers and other GCSs."""

from __future__ import annotations

from raybook.core.node.node_view import Cursor, NodeDied, NodeDrains, NodeJoined, NodeView
from raybook.protocol.messages.gcs import FreeAmounts, NodeInfo, NodesDelta

A, B = b"node-a..", b"node-b.."
FOUR = {"CPU": 40_000}
EPOCH = b"gcs-1..."
OTHER = b"gcs-2..."


def alive(node_id: bytes) -> NodeInfo:
    return NodeInfo(node_id, resources_total=FOUR, resources_available=FOUR)


def dead(node_id: bytes) -> NodeInfo:
    return NodeInfo(node_id, alive=False, death_reason="it burnt.")


def delta(since: int, version: int, *nodes: NodeInfo, epoch: bytes = EPOCH, reset: bool = False, **amounts: int):
    rows = [FreeAmounts({"a": A, "b": B}[name], {"CPU": amount}) for name, amount in amounts.items()]
    return NodesDelta(epoch, since, version, list(nodes), rows, reset)


def started(*nodes: NodeInfo) -> tuple[NodeView, Cursor]:
    view, cursor = NodeView(grace_ms=1_000), Cursor()
    view.apply(cursor, delta(0, len(nodes), *nodes, reset=True), 0)
    return view, cursor


def free(view: NodeView, node_id: bytes) -> int:
    node = view.get(node_id)
    assert node is not None
    return node.available["CPU"]


def test_who_joins_and_who_dies_is_told_once():
    view, cursor = started(alive(A))
    assert view.apply(cursor, delta(1, 2, alive(B)), 0) == [NodeJoined(B)]
    (died,) = view.apply(cursor, delta(2, 3, dead(B)), 0)
    assert isinstance(died, NodeDied) and died.reason == "it burnt."
    assert view.apply(cursor, delta(3, 4, dead(B), alive(B)), 0) == []
    assert view.why_dead(B) == "it burnt." and view.get(B) is None
    view.check_invariants()


def test_an_answer_to_an_older_question_is_ignored():
    view, cursor = started(alive(A))
    view.apply(cursor, delta(1, 2, alive(B)), 0)
    assert view.apply(cursor, delta(1, 2, dead(A)), 0) == []
    assert view.get(A) is not None


def test_guesses_last_until_the_amounts_are_looked_at():
    view, cursor = started(alive(A))
    view.reserve(A, {"CPU": 10_000})
    assert free(view, A) == 30_000
    view.apply(cursor, delta(1, 1), 0)
    view.take_back_guesses(cursor, 1)
    assert free(view, A) == 40_000
    view.reserve(A, {"CPU": 10_000})
    view.apply(cursor, delta(1, 2, a=20_000), 0)
    view.take_back_guesses(cursor, 2)
    assert free(view, A) == 20_000


def test_guesses_outlast_looks_that_did_not_bring_all_the_amounts_there_were():
    view, cursor = started(alive(A), alive(B))
    view.reserve(A, {"CPU": 10_000})
    view.apply(cursor, delta(2, 5), 0)
    view.take_back_guesses(cursor, newest=9)
    view.reserve(B, {"CPU": 10_000})
    view.apply(cursor, delta(5, 8), 0)
    view.take_back_guesses(cursor, newest=12)
    assert (free(view, A), free(view, B)) == (30_000, 30_000)
    view.apply(cursor, delta(8, 10), 0)
    view.take_back_guesses(cursor, newest=14)
    assert (free(view, A), free(view, B)) == (40_000, 30_000), "All changes up to 9 were told, and nothing of A."
    view.apply(cursor, delta(10, 14, b=20_000), 0)
    view.take_back_guesses(cursor, newest=14)
    assert (free(view, A), free(view, B)) == (40_000, 20_000)


def test_nodes_have_time_to_find_a_gcs_that_was_started_anew():
    view, cursor = started(alive(A), alive(B))
    assert view.apply(cursor, delta(0, 1, alive(A), epoch=OTHER, reset=True), 5_000) == []
    assert view.next_deadline_ms() == 6_000 and view.elapse(5_999) == []
    (died,) = view.elapse(6_000)
    assert died.node_id == B and "started anew" in died.reason
    view.check_invariants()


def test_a_node_that_registers_with_the_new_gcs_in_time_lives_on():
    view, cursor = started(alive(A), alive(B))
    view.apply(cursor, delta(0, 1, alive(A), epoch=OTHER, reset=True), 0)
    view.apply(cursor, delta(1, 2, alive(B), epoch=OTHER), 10)
    assert view.next_deadline_ms() is None and view.elapse(10_000) == []


def test_who_was_not_told_of_a_death_finds_out_by_the_list_of_all():
    view, cursor = started(alive(A), alive(B))
    (died,) = view.apply(cursor, delta(0, 9, alive(A), reset=True), 0)
    assert died.node_id == B


def test_a_late_list_of_all_does_not_bury_a_node_that_another_reader_was_told_of():
    view = NodeView(1_000)
    members, amounts = Cursor(), Cursor()
    view.apply(members, delta(0, 1, alive(A), reset=True), 0)
    view.apply(members, delta(1, 2, alive(B)), 0)
    assert view.apply(amounts, delta(0, 1, alive(A), reset=True), 0) == []
    assert view.get(B) is not None
    view.check_invariants()


def test_a_node_that_is_cut_off_is_out_of_the_view_until_it_is_healed():
    view, cursor = started(alive(A), alive(B))
    view.cut_off(B, "the cable is out")
    assert view.get(B) is None and view.info(B) is not None and list(view.in_reach()) == [A]
    assert "the cable is out" in view.why_absent(B)
    view.apply(cursor, delta(2, 3, b=10_000), 0)
    view.check_invariants()
    view.healed(B)
    assert free(view, B) == 10_000 and not view.why_absent(B)


def test_a_node_that_dies_while_it_is_cut_off_is_dead():
    view, cursor = started(alive(A), alive(B))
    view.cut_off(B, "the cable is out")
    (died,) = view.apply(cursor, delta(2, 3, dead(B)), 0)
    assert died.node_id == B
    view.healed(B)
    assert view.get(B) is None
    view.check_invariants()


def test_node_that_drains_leaves_the_view_stays_in_reach_and_is_told_of_once():
    view, cursor = NodeView(1_000), Cursor()
    a, b = A, B
    known = [NodeInfo(node, resources_total={"CPU": 10_000}, resources_available={"CPU": 10_000}) for node in (a, b)]
    view.apply(cursor, NodesDelta(b"gcs", 0, 2, known, [], True), 0)
    drains = NodeInfo(b, resources_total={"CPU": 10_000}, draining="it is taken away")
    assert view.apply(cursor, NodesDelta(b"gcs", 2, 3, [drains], [], False), 1) == [NodeDrains(b)]
    view.check_invariants()
    assert (view.get(a) is not None, view.get(b)) == (True, None)
    assert list(view.in_reach()) == [a, b] and b in view.draining
    assert "about to leave (it is taken away)" in view.why_absent(b)
    assert view.apply(cursor, NodesDelta(b"gcs", 3, 4, [drains], [], False), 2) == []
    view.cut_off(b, "a broken cable")
    view.healed(b)
    view.check_invariants()
    gone = NodeInfo(b, alive=False, death_reason="it was drained.", draining="it is taken away")
    (died,) = view.apply(cursor, NodesDelta(b"gcs", 4, 5, [gone], [], False), 3)
    assert isinstance(died, NodeDied) and not view.draining
    view.check_invariants()
