"""Links between raylets: in order and once, over connections that break whenever they like."""

from __future__ import annotations

from collections import deque

import hypothesis.strategies as st
from hypothesis import given, settings

from raybook.core.node import links
from raybook.core.node.links import Heard, Links

B = b"node-b.."
TIMEOUT_MS = 10_000


def only(effects: list, kind: type) -> list:
    return [effect for effect in effects if isinstance(effect, kind)]


def opened() -> Links:
    machine = Links(TIMEOUT_MS)
    machine.handle([links.Said(B, "one")], 0)
    machine.handle([links.Confirmed(B, 1, 0)], 1)
    return machine


def test_the_first_word_makes_a_connection_and_goes_out_on_it():
    machine = Links(TIMEOUT_MS)
    assert machine.handle([links.Said(B, "one")], 0) == [links.Connect(B, 1, 1, ("one",))]
    assert machine.handle([links.Said(B, "two")], 0) == [links.Transmit(B, "two")]


def test_what_was_not_confirmed_is_said_again_on_the_next_connection():
    machine = opened()
    machine.handle([links.Said(B, "two"), links.Said(B, "three"), links.Confirmed(B, 1, 1)], 5)
    assert machine.handle([links.Broken(B, 1)], 10) == []
    again = machine.next_deadline_ms()
    assert again == 10 + links.PAUSE_MS_MIN
    assert machine.handle([], again) == [links.Connect(B, 2, 2, ("two", "three"))]


def test_the_end_of_an_earlier_connection_says_nothing_of_the_present_one():
    machine = opened()
    machine.handle([links.Broken(B, 1)], 10)
    machine.handle([], 1_000)
    assert machine.handle([links.Broken(B, 1), links.Confirmed(B, 1, 1)], 1_001) == []
    assert machine.handle([links.Confirmed(B, 2, 1)], 1_002) == []
    assert machine.next_deadline_ms() is None


def test_a_node_that_does_not_come_back_is_cut_off_once_and_healed_when_it_does():
    machine = opened()
    machine.handle([links.Broken(B, 1)], 0)
    cut: list = []
    now_ms = 0
    for _ in range(20):
        now_ms = machine.next_deadline_ms() or now_ms
        effects = machine.handle([], now_ms)
        cut += [(now_ms, effect) for effect in only(effects, links.CutOff)]
        for connect in only(effects, links.Connect):
            attempt = connect.attempt
            machine.handle([links.Broken(B, attempt)], now_ms)
        machine.check_invariants()
    assert cut == [(5_000, links.CutOff(B, 5_000))]
    (connect,) = only(machine.handle([], machine.next_deadline_ms() or 0), links.Connect)
    assert machine.handle([links.Confirmed(B, connect.attempt, 1)], now_ms) == [links.Healed(B)]


def test_a_node_that_was_never_reached_is_cut_off_later():
    machine = Links(TIMEOUT_MS)
    machine.handle([links.Said(B, "one")], 0)
    assert machine.handle([], 19_999) == []
    assert machine.handle([], 20_000) == [links.CutOff(B, 20_000)]


def test_nothing_is_said_to_the_dead():
    machine = opened()
    machine.handle([links.Broken(B, 1), links.LinkEnded(B)], 0)
    assert machine.next_deadline_ms() is None
    assert machine.handle([links.Broken(B, 1), links.Confirmed(B, 1, 1)], 1) == []


STEPS = st.lists(st.sampled_from(("say", "arrive", "confirm", "break", "wait")), max_size=120)


@settings(deadline=None)
@given(STEPS)
def test_every_word_arrives_once_and_in_order_whatever_breaks(steps: list[str]):
    """The world: at most one connection, which loses what is on its way when it breaks."""
    machine, heard = Links(TIMEOUT_MS), Heard()
    now_ms = 0
    said: list[int] = []
    arrived: list[int] = []
    attempt = 0
    wire: deque[int] = deque()
    next_number = 0
    is_up = False

    def execute(effects: list) -> None:
        nonlocal attempt, next_number, is_up
        for effect in effects:
            if isinstance(effect, links.Connect):
                attempt, next_number, is_up = effect.attempt, effect.first, True
                wire.clear()
                wire.extend(effect.messages)
            elif isinstance(effect, links.Transmit):
                wire.append(effect.message)

    def arrive() -> None:
        nonlocal next_number
        word = wire.popleft()
        if heard.is_new(next_number):
            arrived.append(word)
        next_number += 1

    for step in steps:
        if step == "say":
            said.append(len(said))
            execute(machine.handle([links.Said(B, said[-1])], now_ms))
        elif step == "arrive" and is_up and wire:
            arrive()
        elif step == "confirm" and is_up:
            execute(machine.handle([links.Confirmed(B, attempt, heard.count)], now_ms))
        elif step == "break" and is_up:
            is_up = False
            wire.clear()
            execute(machine.handle([links.Broken(B, attempt)], now_ms))
        elif step == "wait":
            now_ms += 1_000
            execute(machine.handle([], now_ms))
        machine.check_invariants()
        assert arrived == said[: len(arrived)]
    if said:
        now_ms += 10_000
        execute(machine.handle([], now_ms))
        while wire:
            arrive()
        assert arrived == said
        execute(machine.handle([links.Confirmed(B, attempt, heard.count)], now_ms))
        assert "0 messages unconfirmed" in machine.story(B)
