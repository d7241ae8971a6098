"""Who has not proved the token waits in a room that has an end, and a closing time."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from raybook.protocol.waiting_room import WaitingRoom


def test_the_one_that_waits_longest_goes_when_all_places_are_taken():
    room: WaitingRoom[str] = WaitingRoom(places=2, patience_ms=1000)
    assert room.arrive("a", 0) is None
    assert room.arrive("b", 1) is None
    assert room.arrive("c", 2) == "a"
    assert len(room) == 2


def test_who_proved_the_token_takes_no_place():
    room: WaitingRoom[str] = WaitingRoom(places=1, patience_ms=1000)
    room.arrive("a", 0)
    room.leave("a")
    room.leave("a")
    assert room.arrive("b", 1) is None


def test_nobody_stays_longer_than_the_patience():
    room: WaitingRoom[str] = WaitingRoom(places=9, patience_ms=100)
    room.arrive("a", 0)
    room.arrive("b", 50)
    assert room.next_deadline_ms() == 100
    assert room.overdue(99) == []
    assert room.overdue(100) == ["a"]
    assert room.next_deadline_ms() == 150
    assert room.overdue(1_000) == ["b"]
    assert room.next_deadline_ms() is None


@given(st.lists(st.tuples(st.integers(0, 30), st.booleans(), st.integers(0, 40)), max_size=200))
def test_it_is_never_fuller_than_it_may_be_and_nobody_in_it_is_late(steps: list[tuple[int, bool, int]]):
    room: WaitingRoom[int] = WaitingRoom(places=5, patience_ms=50)
    inside: dict[int, int] = {}
    now = number = 0
    for who, comes, later in steps:
        now += later
        for late in room.overdue(now):
            assert now - inside.pop(late) >= 50
        if comes:
            number += 1
            evicted = room.arrive(number, now)
            inside[number] = now
            if evicted is not None:
                assert evicted == min(inside), "not the oldest"
                del inside[evicted]
        elif inside:
            gone = sorted(inside)[who % len(inside)]
            room.leave(gone)
            del inside[gone]
        assert len(room) == len(inside) <= 5
        assert all(now - since < 50 for since in inside.values())
