"""The node table: silence, questions, death, on virtual time."""

from __future__ import annotations

import hypothesis.strategies as st
from hypothesis import given, settings

from raybook.core.cluster import node_table as on
from raybook.core.cluster.node_table import NodeTable
from raybook.protocol.messages.gcs import NodeInfo

NODE = b"node-a.."


def joined(table: NodeTable, node_id: bytes = NODE, watched: bool = True, now_ms: int = 0) -> list:
    return table.handle([on.NodeRegistered(NodeInfo(node_id), watched)], now_ms)


def test_node_that_reports_is_never_asked():
    table = NodeTable(1_000, 10_000)
    joined(table)
    for now in range(0, 60_000, 500):
        assert table.handle([on.NodeHeard(NODE)], now) == []
        table.check_invariants()
    assert table.is_alive(NODE)


def test_silent_node_is_asked_every_period_and_then_declared_dead():
    table = NodeTable(1_000, 10_000)
    joined(table)
    seen = []
    while (deadline := table.next_deadline_ms()) is not None:
        seen += [(deadline, effect) for effect in table.handle([], deadline)]
        table.check_invariants()
    assert [when for when, effect in seen if isinstance(effect, on.Probe)] == list(range(1_000, 10_000, 1_000))
    assert seen[-1] == (10_000, on.AnnounceDead(NODE, "it has not answered for 10.0 s."))
    assert not table.is_alive(NODE)


def test_answer_to_a_probe_keeps_the_node_alive():
    table = NodeTable(1_000, 3_000)
    joined(table)
    assert table.handle([], 1_000) == [on.Probe(NODE)]
    table.handle([on.NodeHeard(NODE)], 1_100)
    assert table.handle([], 2_000) == []
    assert table.next_deadline_ms() == 2_100


def test_lost_channel_asks_once_and_an_answer_announces_the_node():
    table = NodeTable(1_000, 10_000)
    joined(table)
    assert table.handle([on.NodeUnreachable(NODE)], 100) == [on.Probe(NODE)]
    assert table.handle([on.NodeUnreachable(NODE)], 110) == []
    assert table.handle([on.NodeHeard(NODE)], 200) == [on.AnnounceReachable(NODE)]
    assert table.handle([on.NodeHeard(NODE)], 300) == []


def test_dead_node_stays_dead():
    table = NodeTable(1_000, 10_000)
    joined(table)
    assert table.handle([on.NodeLeft(NODE, "it was stopped.")], 1) == [on.AnnounceDead(NODE, "it was stopped.")]
    assert joined(table, now_ms=2) == []
    assert table.handle([on.NodeHeard(NODE)], 3) == []
    assert table.get(NODE).death_reason == "it was stopped."


def test_node_of_this_process_has_no_deadline():
    table = NodeTable(1_000, 10_000)
    joined(table, watched=False)
    assert table.next_deadline_ms() is None


node_ids = st.sampled_from([b"n1", b"n2", b"n3"])
steps = st.lists(
    st.tuples(
        st.integers(0, 4_000),
        st.one_of(
            st.builds(on.NodeHeard, node_ids),
            st.builds(on.NodeUnreachable, node_ids),
            st.builds(lambda n: on.NodeLeft(n, "left"), node_ids),
            st.builds(lambda n: on.NodeRegistered(NodeInfo(n)), node_ids),
        ),
    ),
    max_size=50,
)


@given(steps)
@settings(max_examples=200, deadline=None)
def test_death_is_announced_once_and_only_after_the_timeout_or_a_farewell(sequence):
    table = NodeTable(1_000, 5_000)
    now, heard, dead = 0, {}, set()
    for pause, event in sequence:
        end = now + pause
        batches = []
        while (deadline := table.next_deadline_ms()) is not None and deadline <= end:
            now = max(now, deadline)
            batches.append((now, table.handle([], now)))
        now = end
        batches.append((now, table.handle([event], now)))
        table.check_invariants()
        for when, effects in batches:
            for effect in effects:
                if isinstance(effect, on.AnnounceDead):
                    assert effect.node_id not in dead
                    dead.add(effect.node_id)
                    assert effect.reason == "left" or when - heard[effect.node_id] >= 5_000
        if isinstance(event, on.NodeRegistered):
            heard[event.node.node_id] = now
        elif isinstance(event, on.NodeHeard) and event.node_id in heard:
            heard[event.node_id] = now


def test_a_closed_connection_has_its_port_knocked_at_and_the_node_asked():
    table = NodeTable(1_000, 10_000)
    joined(table)
    assert table.handle([on.NodeDisconnected(NODE)], 100) == [on.Knock(NODE), on.Probe(NODE)]
    assert table.handle([on.NodeLeft(NODE, "nobody listens.")], 110) == [on.AnnounceDead(NODE, "nobody listens.")]
    assert table.handle([on.NodeDisconnected(NODE)], 120) == []


def test_a_closed_connection_alone_kills_nobody():
    table = NodeTable(1_000, 10_000)
    joined(table)
    table.handle([on.NodeDisconnected(NODE)], 100)
    table.handle([on.NodeHeard(NODE)], 200)
    assert table.is_alive(NODE)


def test_time_in_which_nobody_looked_is_not_held_against_a_node():
    """The GCS was stopped, or its machine suspended, for a minute."""
    table = NodeTable(1_000, 10_000)
    joined(table)
    assert table.handle([], 61_000) == [on.Probe(NODE)]
    assert table.handle([on.NodeHeard(NODE)], 61_010) == []
    assert table.is_alive(NODE)
    table.check_invariants()


def test_a_node_that_died_in_that_time_is_found_out_afterwards():
    table = NodeTable(1_000, 10_000)
    joined(table)
    table.handle([], 61_000)
    died_ms = None
    while (deadline := table.next_deadline_ms()) is not None and died_ms is None:
        if any(isinstance(effect, on.AnnounceDead) for effect in table.handle([], deadline)):
            died_ms = deadline
    assert died_ms == 61_000 + 9_000


JUMPS = st.lists(st.tuples(st.integers(1, 900), st.sampled_from((0, 0, 0, -3_600_000, -5_000, 5_000, 3_600_000))))


@settings(deadline=None)
@given(JUMPS)
def test_no_jump_of_the_clock_kills_a_node_that_answers(steps: list[tuple[int, int]]):
    table = NodeTable(1_000, 3_000)
    clock_ms = 10_000_000
    joined(table, now_ms=clock_ms)
    for passed_ms, jump_ms in steps:
        clock_ms += passed_ms + jump_ms
        for effect in table.handle([], clock_ms):
            assert isinstance(effect, on.Probe)
            clock_ms += 1
            table.handle([on.NodeHeard(NODE)], clock_ms)
        table.check_invariants()
    assert table.is_alive(NODE)


@settings(deadline=None)
@given(JUMPS)
def test_a_silent_node_dies_after_the_timeout_however_the_clock_jumps(steps: list[tuple[int, int]]):
    table = NodeTable(1_000, 3_000)
    clock_ms = 10_000_000
    joined(table, now_ms=clock_ms)
    for _, jump_ms in steps:
        clock_ms += jump_ms
        table.handle([], clock_ms)
        deadline_ms = table.next_deadline_ms()
        if deadline_ms is None:
            break
        assert deadline_ms - clock_ms <= 1_000
        clock_ms = max(clock_ms, deadline_ms)
        table.handle([], clock_ms)
    for _ in range(4):
        clock_ms = max(clock_ms, table.next_deadline_ms() or 0)
        table.handle([], clock_ms)
    assert not table.is_alive(NODE)


def test_an_id_of_a_living_node_is_refused_to_another_and_kept_by_its_owner():
    table = NodeTable(1_000, 10_000)
    owner = NodeInfo(NODE, raylet_address="10.0.0.1:1", hostname="first")
    table.handle([on.NodeRegistered(owner)], 0)
    assert table.why_refused(owner) is None
    refusal = table.why_refused(NodeInfo(NODE, raylet_address="10.0.0.2:1"))
    assert refusal is not None and refusal[0] == "ValueError"
    assert "is taken: the node at 10.0.0.1:1 (first, pid 0) has it and lives" in refusal[1]
    assert table.why_refused(NodeInfo(b"another.", raylet_address="10.0.0.2:1")) is None


def test_a_dead_nodes_id_is_refused_to_everybody():
    table = NodeTable(1_000, 10_000)
    owner = NodeInfo(NODE, raylet_address="10.0.0.1:1")
    table.handle([on.NodeRegistered(owner), on.NodeLeft(NODE, "it was told to.")], 0)
    for address in ("10.0.0.1:1", "10.0.0.2:1"):
        refusal = table.why_refused(NodeInfo(NODE, raylet_address=address))
        assert refusal is not None and refusal[0] == "NodeDiedError"
