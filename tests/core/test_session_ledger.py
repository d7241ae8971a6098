"""The ledger knows whose a session's references are, through one client process after another."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from raybook.base.ids import FIRST_RETURN, return_id, stream_id
from raybook.base.specs import STREAMING
from raybook.core.session.ledger import ACTOR, OBJECT, STREAM, Ledger, Origin

TASK = b"client--" + bytes(8)
FIRST = TASK + FIRST_RETURN


def test_results_of_a_task_are_counted_once_each():
    ledger = Ledger()
    ledger.submitted(TASK, 2, Origin("f"))
    assert ledger.held == {return_id(TASK, 0): 1, return_id(TASK, 1): 1}


def test_a_stream_counts_its_end_and_itself():
    ledger = Ledger()
    ledger.submitted(TASK, STREAMING, Origin("items"))
    assert ledger.held == {FIRST: 1, stream_id(TASK): 1}
    assert ledger.kind(stream_id(TASK)) == STREAM


def test_what_was_not_counted_is_not_given_back():
    ledger = Ledger()
    ledger.hold(FIRST)
    assert ledger.release(FIRST)
    assert not ledger.release(FIRST)


def test_what_a_process_held_is_kept_when_another_comes():
    ledger = Ledger()
    ledger.submitted(TASK, 1, Origin("featurize", "In[12]:3", 5.0))
    ledger.hold(FIRST)
    ledger.change_hands()
    assert ledger.held == {}
    (row,) = ledger.rows()
    assert (row["key"], row["kind"], row["what"], row["call_site"]) == (FIRST, OBJECT, "featurize", "In[12]:3")


def test_taking_a_kept_id_leaves_one_count():
    ledger = Ledger()
    ledger.submitted(TASK, 1, Origin("f"))
    ledger.hold(FIRST)
    ledger.hold(FIRST)
    ledger.change_hands()
    assert ledger.take(FIRST) == 2  # Of three counts the owner gives up two.
    assert ledger.held == {FIRST: 1}
    assert ledger.rows() == []


def test_what_is_not_kept_cannot_be_taken():
    ledger = Ledger()
    ledger.hold(FIRST)
    assert ledger.take(FIRST) is None


def test_a_named_id_can_be_taken_again_and_again():
    ledger = Ledger()
    ledger.hold(FIRST)
    assert ledger.name(FIRST, "features") is None
    ledger.release(FIRST)
    assert ledger.take(FIRST) == -1  # The name keeps its count, so the reference needs one of its own.
    ledger.release(FIRST)
    assert ledger.take(FIRST) == -1
    ledger.check_invariants()


def test_a_name_that_is_used_again_moves():
    ledger = Ledger()
    other = TASK + return_id(TASK, 1)[16:]
    ledger.hold(FIRST)
    ledger.hold(other)
    ledger.name(FIRST, "best")
    assert ledger.name(other, "best") == FIRST
    assert ledger.names == {"best": other}
    assert FIRST not in ledger.kept


def test_forgetting_takes_the_name_too():
    ledger = Ledger()
    ledger.hold(FIRST)
    ledger.name(FIRST, "features")
    ledger.change_hands()
    assert ledger.forget(FIRST) == 2
    assert ledger.names == {}
    assert not ledger.is_counted(FIRST)


def test_what_is_said_of_a_task_goes_with_its_last_result():
    ledger = Ledger()
    ledger.submitted(TASK, 2, Origin("f"))
    ledger.release(return_id(TASK, 0))
    assert TASK in ledger.origins
    ledger.release(return_id(TASK, 1))
    assert ledger.origins == {}


def test_handles_of_kept_actors_are_kept():
    ledger = Ledger()
    ledger.hold(TASK)
    ledger.handles[TASK] = b"handle"
    ledger.change_hands()
    (row,) = ledger.rows()
    assert (row["kind"], row["handle"]) == (ACTOR, b"handle")
    ledger.forget(TASK)
    assert ledger.handles == {}


KEYS = st.sampled_from([return_id(TASK, 0), return_id(TASK, 1), b"client--" + bytes(7) + b"\1" + FIRST_RETURN])
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("hold"), KEYS),
        st.tuples(st.just("release"), KEYS),
        st.tuples(st.just("take"), KEYS),
        st.tuples(st.just("forget"), KEYS),
        st.tuples(st.sampled_from(["name x", "name y"]), KEYS),
        st.tuples(st.just("change hands"), KEYS),
    ),
    max_size=60,
)


@given(STEPS)
def test_the_owner_s_counts_are_always_those_of_the_ledger(steps):
    ledger = Ledger()
    owner: dict[bytes, int] = {}
    for what, key in steps:
        if what == "hold":
            ledger.hold(key)
            owner[key] = owner.get(key, 0) + 1
        elif what == "release":
            owner[key] = owner.get(key, 0) - ledger.release(key)
        elif what == "take":
            owner[key] = owner.get(key, 0) - (ledger.take(key) or 0)
        elif what == "forget":
            owner[key] = owner.get(key, 0) - ledger.forget(key)
        elif what == "change hands":
            ledger.change_hands()
        elif ledger.is_counted(key):
            owner[key] = owner.get(key, 0) + 1
            before = ledger.name(key, what[5:])
            if before is not None:
                owner[before] -= 1
        ledger.check_invariants()
        for each, count in owner.items():
            assert count == ledger.held.get(each, 0) + ledger.kept.get(each, 0)
