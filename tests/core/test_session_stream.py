"""A stream's bodies arrive once and in order, whatever happens to the connections below it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from raybook.core.session.stream import BATCH_BYTES, Stream, StreamBroken
from raybook.protocol.messages.session import Batch


def test_bodies_arrive_in_order():
    here, there = Stream(), Stream()
    for text in (b"one", b"two", b"three"):
        here.send(text)
    batch = here.take()
    assert batch == Batch(1, 0, [b"one", b"two", b"three"])
    assert there.receive(batch) == [b"one", b"two", b"three"]
    assert here.take() is None


def test_a_batch_that_comes_twice_is_taken_once():
    here, there = Stream(), Stream()
    here.send(b"one")
    batch = here.take()
    there.receive(batch)
    assert there.receive(batch) == []


def test_of_a_batch_that_overlaps_only_what_is_new_is_taken():
    there = Stream()
    there.receive(Batch(1, 0, [b"one", b"two"]))
    assert there.receive(Batch(2, 0, [b"two", b"three"])) == [b"three"]
    assert there.received == 3


def test_after_a_break_what_did_not_arrive_is_sent_again_before_what_is_new():
    here = Stream()
    for text in (b"one", b"two", b"three"):
        here.send(text)
    here.take()
    here.send(b"four")
    here.resume(received=1)
    assert here.take() == Batch(2, 0, [b"two", b"three", b"four"])
    here.check_invariants()


def test_what_was_acknowledged_is_forgotten():
    here, there = Stream(), Stream()
    here.send(bytes(1000))
    there.receive(here.take())
    there.send(b"answer")
    here.receive(there.take())
    assert here.statistics().unacknowledged == 0
    assert here.backlog_bytes == 0


def test_an_acknowledgement_is_owed_until_something_is_said():
    here, there = Stream(), Stream()
    here.send(b"one")
    there.receive(here.take())
    assert there.owes_acknowledgement()
    assert there.take() is None
    assert there.acknowledgement() == Batch(1, 1, [])
    assert not there.owes_acknowledgement()


def test_too_much_in_flight_waits_for_an_acknowledgement():
    here, there = Stream(flight_bytes=1000), Stream()
    for _ in range(5):
        here.send(bytes(600))
    there.receive(first := here.take())
    assert len(first.bodies) == 2
    assert here.take() is None
    here.receive(there.acknowledgement())
    assert len(here.take().bodies) == 2


def test_a_body_larger_than_all_that_may_be_in_flight_goes_alone():
    here = Stream(flight_bytes=10)
    here.send(bytes(100))
    here.send(b"next")
    assert here.take().bodies == [bytes(100)]
    assert here.take() is None


def test_one_message_is_bounded():
    here = Stream()
    for _ in range(10):
        here.send(bytes(BATCH_BYTES // 2))
    assert len(here.take().bodies) == 2


def test_a_gap_is_no_stream():
    with pytest.raises(StreamBroken, match="Body 3 came where 1 was due"):
        Stream().receive(Batch(3, 0, [b"three"]))


def test_what_was_never_sent_cannot_be_acknowledged():
    with pytest.raises(StreamBroken, match="Body 7 was acknowledged"):
        Stream().receive(Batch(1, 7, []))


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("send"), st.sampled_from("ab"), st.integers(1, 400)),
        st.tuples(st.just("carry"), st.sampled_from("ab"), st.integers(1, 3)),
        st.tuples(st.just("break"), st.just(""), st.just(0)),
        st.tuples(st.just("acknowledge"), st.sampled_from("ab"), st.just(0)),
    ),
    max_size=80,
)


@given(STEPS)
def test_nothing_is_lost_doubled_or_turned_round_by_any_breaks(steps):
    # Given two ends, and between them connections that break with messages on them
    ends = {"a": Stream(flight_bytes=1000), "b": Stream(flight_bytes=1000)}
    sent: dict[str, list[bytes]] = {"a": [], "b": []}
    got: dict[str, list[bytes]] = {"a": [], "b": []}
    wire: dict[str, list[Batch]] = {"a": [], "b": []}

    def carry(end: str, count: int) -> None:
        other = "b" if end == "a" else "a"
        while (batch := ends[end].take()) is not None:
            wire[end].append(batch)
        for batch in wire[end][:count]:
            got[other] += ends[other].receive(batch)
        del wire[end][:count]

    def breaks() -> None:
        wire["a"].clear()
        wire["b"].clear()
        ends["a"].resume(ends["b"].received)
        ends["b"].resume(ends["a"].received)

    # When they speak, and it breaks again and again
    for what, end, amount in steps:
        if what == "send":
            body = f"{end}{len(sent[end])}".encode().ljust(amount, b".")
            sent[end].append(body)
            ends[end].send(body)
        elif what == "carry":
            carry(end, amount)
        elif what == "break":
            breaks()
        else:
            wire[end].append(ends[end].acknowledgement())
        for stream in ends.values():
            stream.check_invariants()
    # Then, once it holds for a while, each has what the other one said
    for _ in range(200):
        carry("a", 100)
        carry("b", 100)
        for end in ends:
            wire[end].append(ends[end].acknowledgement())
    assert got == {"a": sent["b"], "b": sent["a"]}
    assert all(stream.statistics().unacknowledged == 0 for stream in ends.values())
