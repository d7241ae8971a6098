"""The node feed: whoever reads from time to time knows in the end what is there, and is told each change once."""

from __future__ import annotations

import hypothesis.strategies as st
from hypothesis import given, settings

from raybook.core.cluster.node_feed import NodeFeed

FOUR = {"CPU": 40_000}
THREE = {"CPU": 30_000}
A, B = b"node-a..", b"node-b.."


def test_a_reader_who_has_seen_everything_is_told_nothing():
    feed = NodeFeed()
    feed.joined(A, FOUR)
    first = feed.since(0, with_amounts=True)
    assert first is not None and first.reset and first.members == [A]
    assert feed.since(first.version, with_amounts=True) is None


def test_a_node_that_says_the_same_as_before_is_no_news():
    feed = NodeFeed()
    feed.joined(A, FOUR)
    assert not feed.reported(A, dict(FOUR))
    assert feed.reported(A, THREE)
    assert not feed.reported(A, dict(THREE))


def test_amounts_are_told_to_those_alone_who_ask_for_them():
    feed = NodeFeed()
    feed.joined(A, FOUR)
    seen = feed.version
    feed.reported(A, THREE)
    assert feed.since(seen, with_amounts=False) is None
    changes = feed.since(seen, with_amounts=True)
    assert changes is not None and (changes.members, changes.amounts) == ([], [A])


def test_one_change_among_ten_thousand_nodes_is_told_as_one():
    feed = NodeFeed()
    for number in range(10_000):
        feed.joined(number.to_bytes(8, "big"), FOUR)
    seen = feed.version
    feed.reported((77).to_bytes(8, "big"), THREE)
    changes = feed.since(seen, with_amounts=True)
    assert changes is not None and changes.amounts == [(77).to_bytes(8, "big")] and not changes.members


def test_who_has_not_looked_since_a_death_was_forgotten_is_told_everything():
    feed = NodeFeed(dead_max=1)
    for node_id in (A, B):
        feed.joined(node_id, FOUR)
    seen = feed.version
    feed.died(A)
    between = feed.version
    feed.died(B)
    late = feed.since(seen, with_amounts=False)
    assert late is not None and late.reset and late.members == [B]
    in_time = feed.since(between, with_amounts=False)
    assert in_time is not None and not in_time.reset and in_time.members == [B]


def test_of_many_amounts_an_answer_has_the_oldest_and_the_next_ones_the_rest():
    feed = NodeFeed(amounts_max=4)
    nodes = [bytes([number]) for number in range(10)]
    for node_id in nodes:
        feed.joined(node_id, FOUR)
    version = feed.version
    for node_id in nodes:
        feed.reported(node_id, THREE)
    told: list[list[bytes]] = []
    while (changes := feed.since(version, with_amounts=True)) is not None:
        told.append(changes.amounts)
        version = changes.version
        assert (version == changes.newest) == (len(changes.amounts) < 4)
        if len(told) == 1:
            feed.reported(nodes[0], FOUR)
            feed.reported(nodes[5], FOUR)
    assert told == [nodes[:4], [nodes[4], *nodes[6:9]], [nodes[9], nodes[0], nodes[5]]]


STEPS = st.lists(
    st.tuples(st.sampled_from(("join", "die", "report", "read")), st.integers(0, 4), st.integers(0, 3)), max_size=60
)


@settings(deadline=None)
@given(STEPS, st.integers(0, 3), st.integers(1, 3))
def test_a_reader_knows_what_is_there_whenever_it_has_read_all(
    steps: list[tuple[str, int, int]], dead_max: int, amounts_max: int
):
    feed = NodeFeed(dead_max, amounts_max)
    there: dict[bytes, dict[str, int]] = {}
    known: dict[bytes, dict[str, int]] = {}
    dead: set[bytes] = set()
    version = 0
    for what, number, amount in steps:
        node_id = bytes([number])
        if what == "join" and node_id not in there and node_id not in dead:
            there[node_id] = {"CPU": amount}
            feed.joined(node_id, there[node_id])
        elif what == "report" and node_id in there:
            there[node_id] = {"CPU": amount}
            feed.reported(node_id, there[node_id])
        elif what == "die" and node_id in there:
            del there[node_id]
            dead.add(node_id)
            feed.died(node_id)
        elif what == "read":
            while (changes := feed.since(version, with_amounts=True)) is not None and changes.newest > version:
                version = changes.version
                if changes.reset:
                    known = {}
                for changed in (*changes.members, *changes.amounts):
                    known.pop(changed, None)
                    if changed in there:
                        known[changed] = feed.available(changed)
            assert known == there
        feed.check_invariants()
