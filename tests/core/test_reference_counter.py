"""The reference counter against a dumb model: multisets of holders, and garbage exactly when nobody is left."""

from __future__ import annotations

from collections import Counter

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from raybook.base.specs import RefInfo
from raybook.core.owner.reference_counter import ReferenceCounter

ME = b"me......"
OTHER = b"other..."
OWNED = [ME + bytes([index]) * 12 for index in range(4)]
BORROWED = [OTHER + bytes([index]) * 12 for index in range(4)]
CLIENTS = [b"client-1", b"client-2"]


class CountingModel(RuleBasedStateMachine):
    """Random holds, drops and borrows; after each step the counter knows exactly what the model knows."""

    def __init__(self) -> None:
        super().__init__()
        self.counter = ReferenceCounter(ME)
        self.local: Counter[bytes] = Counter()
        self.lent: set[tuple[bytes, bytes]] = set()
        self.released: Counter[bytes] = Counter()
        self.returned: Counter[bytes] = Counter()
        self.born: Counter[bytes] = Counter()
        self.first_holds: Counter[bytes] = Counter()

    def _alive(self, key: bytes) -> bool:
        return self.local[key] > 0 or any(held == key for held, _ in self.lent)

    def _settle(self) -> None:
        self.released.update(self.counter.released)
        self.returned.update(key for key, _ in self.counter.returned)
        self.counter.released.clear()
        self.counter.returned.clear()

    @rule(key=st.sampled_from(OWNED))
    def create_or_hold_owned(self, key: bytes) -> None:
        if not self._alive(key):
            self.counter.create(key)
            self.born[key] += 1
        else:
            assert not self.counter.hold(RefInfo(key, ""))
        self.local[key] += 1
        self._settle()

    @rule(key=st.sampled_from(BORROWED))
    def hold_borrowed(self, key: bytes) -> None:
        first = self.counter.hold(RefInfo(key, "unix:/owner"))
        assert first == (self.local[key] == 0)
        self.first_holds[key] += first
        self.local[key] += 1

    @precondition(lambda self: any(count > 0 for count in self.local.values()))
    @rule(data=st.data())
    def drop(self, data: st.DataObject) -> None:
        key = data.draw(st.sampled_from(sorted(key for key, count in self.local.items() if count > 0)))
        self.local[key] -= 1
        self.counter.drop(key)
        self._settle()

    @rule(key=st.sampled_from(OWNED), client=st.sampled_from(CLIENTS))
    def lend(self, key: bytes, client: bytes) -> None:
        assert self.counter.add_borrower(key, client) == self._alive(key)
        if self._alive(key):
            self.lent.add((key, client))

    @rule(key=st.sampled_from(OWNED), client=st.sampled_from(CLIENTS))
    def take_back(self, key: bytes, client: bytes) -> None:
        self.counter.drop_borrower(key, client)
        self.lent.discard((key, client))
        self._settle()

    @rule(client=st.sampled_from(CLIENTS))
    def a_borrower_dies(self, client: bytes) -> None:
        self.counter.drop_client(client)
        self.lent = {(key, holder) for key, holder in self.lent if holder != client}
        self._settle()

    @invariant()
    def every_death_is_reported_exactly_once(self) -> None:
        for key in OWNED:
            assert self.released[key] == self.born[key] - self._alive(key)
        for key in BORROWED:
            assert self.returned[key] == self.first_holds[key] - (self.local[key] > 0)

    @invariant()
    def the_counter_is_whole(self) -> None:
        self.counter.check_invariants()


TestReferenceCounter = CountingModel.TestCase
TestReferenceCounter.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)


def test_a_container_keeps_what_it_holds_until_it_goes() -> None:
    counter = ReferenceCounter(ME)
    counter.create(OWNED[0])
    counter.create(OWNED[1])
    assert counter.contain(OWNED[0], [RefInfo(OWNED[1], ""), RefInfo(BORROWED[0], "unix:/x")]) == [
        RefInfo(BORROWED[0], "unix:/x")
    ]

    counter.drop(OWNED[1])
    assert counter.released == []
    counter.drop(OWNED[0])

    assert counter.released == [OWNED[0], OWNED[1]]
    assert counter.returned == [(BORROWED[0], "unix:/x")]
    assert counter.statistics() == {"held": 0, "lent": 0, "borrowed": 0}


def test_dropping_an_id_of_an_earlier_life_is_ignored() -> None:
    counter = ReferenceCounter(ME)
    counter.drop(OWNED[0])
    assert counter.released == []
