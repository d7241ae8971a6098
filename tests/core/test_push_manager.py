"""Push manager, scenes: which node sends an object to the next one that asks."""

from __future__ import annotations

import random

import pytest

from raybook.core.node import push_manager as push
from raybook.core.node.push_manager import FAN_OUT, HERE, OBJECTS_MAX, RELAY_BYTES_MIN, PushManager

ME = b"node-me-"
LARGE = RELAY_BYTES_MIN
KEY = b"object"


class Scene:
    def __init__(self) -> None:
        self.machine = PushManager(ME)
        self.read_id = 0
        self.reads: dict[bytes, int] = {}

    def tell(self, *events) -> list:
        effects = self.machine.handle(events)
        self.machine.check_invariants()
        return effects

    def ask(self, reader: bytes, avoid: list[bytes] | None = None, size: int = LARGE, key: bytes = KEY) -> bytes:
        """Who is to send it: a node, or ``HERE``."""
        self.read_id += 1
        self.reads[reader] = self.read_id
        (effect,) = self.tell(push.ReadWanted(self.read_id, key, size, reader, avoid or []))
        assert effect.read_id == self.read_id
        return effect.node_id if isinstance(effect, push.Elsewhere) else HERE

    def whole(self, reader: bytes, is_whole: bool = True) -> None:
        self.tell(push.SendEnded(self.reads[reader], is_whole), push.ReadOver(reader, KEY, is_whole))

    @property
    def sent(self) -> int:
        return self.machine.statistics()["sent"]


def nodes(count: int) -> list[bytes]:
    return [b"node-%03d" % number for number in range(count)]


def test_small_objects_always_come_from_where_they_lie():
    scene = Scene()
    assert [scene.ask(node, size=RELAY_BYTES_MIN - 1) for node in nodes(9)] == [HERE] * 9
    assert scene.machine.story(KEY) == "No other node has asked for it lately."


def test_eight_nodes_at_once_take_two_sends_of_the_first_and_no_more_of_any_other():
    scene = Scene()
    sources = [scene.ask(node) for node in nodes(8)]
    assert sources.count(HERE) == FAN_OUT
    assert max(sources.count(node) for node in nodes(8)) <= FAN_OUT
    one, two = nodes(8)[:2]
    assert sources[:6] == [HERE, HERE, one, two, one, two]
    assert f"node {one.hex()} gets it from {ME.hex()}, sends it to 2" in scene.machine.story(KEY)


def test_eight_nodes_one_after_the_other_share_the_work():
    scene = Scene()
    sources = []
    for node in nodes(8):
        sources.append(scene.ask(node))
        scene.whole(node)
    assert sources.count(HERE) == 1
    assert len(set(sources)) == 8, "Each of them, and this node, sent it once."


def test_a_node_whose_copy_is_gone_is_not_named_again():
    scene = Scene()
    first, second, third = nodes(3)
    scene.ask(first)
    scene.whole(first)
    assert scene.ask(second) == first
    assert scene.ask(second, avoid=[first]) == HERE
    assert first not in {scene.ask(third), scene.ask(third, avoid=[second])}


def test_a_node_that_comes_back_is_not_sent_to_those_that_wait_for_it():
    scene = Scene()
    first, second, third, fourth = nodes(4)
    assert [scene.ask(node) for node in (first, second, third, fourth)] == [HERE, HERE, first, second]
    scene.whole(second)
    # It broke off; the third still waits for what it passes on.
    assert scene.ask(first) in (HERE, second)
    assert scene.machine.story(KEY).count(f"gets it from {first.hex()}") == 1


def test_a_dead_node_is_not_named_and_what_it_sent_counts_no_more():
    scene = Scene()
    first, second = nodes(2)
    scene.ask(first)
    scene.whole(first)
    scene.tell(push.NodeGone(first))
    assert scene.ask(second) == HERE


def test_a_reader_that_gave_up_is_not_named():
    scene = Scene()
    first, second = nodes(2)
    scene.ask(first)
    scene.whole(first, is_whole=False)
    assert scene.ask(second) == HERE


def test_when_all_are_busy_it_is_sent_from_here_all_the_same():
    scene = Scene()
    first, second, third = nodes(3)
    scene.ask(first)
    scene.ask(second)
    assert scene.ask(third, avoid=[first, second]) == HERE


def test_what_is_remembered_is_bounded():
    scene = Scene()
    for number in range(OBJECTS_MAX + 5):
        scene.ask(nodes(1)[0], key=b"object-%d" % number)
    assert scene.machine.story(b"object-0") == "No other node has asked for it lately."
    assert scene.machine.story(b"object-9") != "No other node has asked for it lately."


@pytest.mark.parametrize("seed", range(40))
def test_nobody_waits_for_itself_whatever_breaks(seed: int):
    """Nodes ask, finish, break off, die and come back by a seed. In the end every reader can get it."""
    draw = random.Random(seed)
    scene = Scene()
    source: dict[bytes, bytes] = {}
    whole: set[bytes] = set()
    avoid: dict[bytes, list[bytes]] = {}

    def ask(node: bytes) -> None:
        whole.discard(node)
        source[node] = scene.ask(node, avoid.get(node, []))
        assert source[node] not in avoid.get(node, []) and source[node] != node
        seen = {node}
        at = source[node]
        while at in source:
            assert at not in seen, "nodes wait for each other"
            seen.add(at)
            at = source[at]

    for _ in range(200):
        node = draw.choice(nodes(10))
        what = draw.choice(["ask", "ask", "end", "end", "fail", "die"])
        if what == "ask" and node not in source and node not in whole:
            avoid.pop(node, None)
            ask(node)
        elif what == "end" and node in source and (source[node] == HERE or source[node] in whole):
            del source[node]
            whole.add(node)
            scene.whole(node)
        elif what == "fail" and node in source and source[node] != HERE:
            avoid.setdefault(node, []).append(source[node])
            ask(node)
        elif what == "die" and draw.random() < 0.3:
            source.pop(node, None)
            whole.discard(node)
            scene.tell(push.NodeGone(node))
            for child in [child for child, at in source.items() if at == node]:
                avoid.setdefault(child, []).append(node)
                ask(child)
