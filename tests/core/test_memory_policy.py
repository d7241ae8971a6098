"""Memory policy: the store first, then the right worker, one at a time, and never without need."""

from __future__ import annotations

import pytest

from raybook.core.node import memory_policy as mp

GIB = 1 << 30
MIB = 1 << 20
LIMIT = 16 * GIB
SHORT = int(15.3 * GIB)
CRITICAL = int(15.8 * GIB)
ANNA, BOB = b"anna", b"bob"


def worker(
    name: str, owner: bytes = ANNA, *, started_ms: int = 0, mib: int = 1024, retriable: bool = True
) -> mp.Candidate:
    return mp.Candidate(name.encode(), owner, started_ms, mib * MIB, retriable)


def reading(*candidates: mp.Candidate, used: int = SHORT, store: int = 0) -> mp.Reading:
    return mp.Reading(used, LIMIT, store, candidates)


class Scene:
    """A policy and its clock."""

    def __init__(self) -> None:
        self.policy = mp.MemoryPolicy(0.95)
        self.now_ms = 1_000

    def tell(self, event: mp.Event, after_ms: int = 250) -> list[mp.Effect]:
        self.now_ms += after_ms
        effects = self.policy.handle([event], self.now_ms)
        self.policy.check_invariants()
        return effects

    def victim(self, *candidates: mp.Candidate) -> str:
        (ended,) = (effect for effect in self.tell(reading(*candidates)) if isinstance(effect, mp.EndWorker))
        return ended.worker.decode()


def test_nothing_happens_below_the_threshold():
    scene = Scene()

    assert scene.tell(reading(worker("a"), used=int(15.1 * GIB), store=8 * GIB)) == []
    assert scene.policy.is_calm


def test_retriable_work_is_ended_before_work_that_must_not_run_twice():
    assert Scene().victim(worker("new", started_ms=9, retriable=False), worker("old", started_ms=1)) == "old"


def test_newest_work_of_an_owner_is_ended_first():
    assert (
        Scene().victim(worker("old", started_ms=1), worker("new", started_ms=9), worker("mid", started_ms=5)) == "new"
    )


def test_owner_with_most_workers_gives_first_so_that_the_last_one_of_another_is_spared():
    crowd = [worker("a1", ANNA, started_ms=1), worker("a2", ANNA, started_ms=2)]

    assert Scene().victim(*crowd, worker("b1", BOB, started_ms=9)) == "a2"


def test_worker_that_holds_next_to_nothing_is_ended_last():
    gate = worker("gate", started_ms=9, mib=30)

    assert Scene().victim(gate, worker("hog", BOB, started_ms=1, mib=4096, retriable=False)) == "hog"
    assert Scene().victim(gate) == "gate"


def test_victim_without_company_of_size_is_not_worth_another_try():
    alone = Scene().tell(reading(worker("hog"), worker("gate", mib=20), worker("idle", b"", mib=2048), used=CRITICAL))
    crowded = Scene().tell(reading(worker("hog"), worker("other", BOB)))

    assert mp.EndWorker(b"hog", has_company=False) in alone
    assert mp.EndWorker(b"hog", has_company=True) in crowded or mp.EndWorker(b"other", has_company=True) in crowded


def test_drivers_are_no_candidates_and_a_shortage_without_workers_is_said_once():
    scene = Scene()

    assert scene.tell(reading()) == [mp.NobodyToEnd()]
    assert scene.tell(reading()) == []
    scene.tell(reading(used=GIB))
    assert scene.tell(reading()) == [], "It was said a moment ago."
    scene.tell(reading(used=GIB))
    assert scene.tell(reading(), after_ms=mp.COMPLAINT_MS) == [mp.NobodyToEnd()]


def test_idle_worker_that_kept_much_is_asked_to_leave_once():
    scene = Scene()
    hoarder, fresh = worker("hoarder", b"", mib=3072), worker("fresh", b"", mib=24)

    assert scene.tell(reading(hoarder, fresh, worker("busy"))) == [mp.EndIdle(b"hoarder")]
    assert scene.tell(reading(hoarder, fresh, worker("busy"))) == [], "It had no time to leave."
    again = scene.tell(reading(hoarder, fresh, worker("busy")), after_ms=mp.COOL_DOWN_MS)

    assert again == [mp.EndWorker(b"busy", has_company=False)]


def test_when_memory_is_nearly_gone_nobody_waits_for_an_idle_worker_to_leave():
    effects = Scene().tell(reading(worker("hoarder", b"", mib=3072), worker("busy"), used=CRITICAL))

    assert effects == [mp.EndIdle(b"hoarder"), mp.EndWorker(b"busy", has_company=False)]


def test_store_shrinks_before_anybody_is_ended():
    scene = Scene()

    (shrink,) = scene.tell(reading(worker("a"), store=4 * GIB))

    assert isinstance(shrink, mp.ShrinkStore) and 0 < shrink.to_free_bytes <= SHORT - int(0.95 * LIMIT) + 1
    for step in range(1, 6):
        effects = scene.tell(reading(worker("a"), store=4 * GIB - step * 100 * MIB))
        assert not any(isinstance(effect, mp.EndWorker) for effect in effects)
    assert scene.tell(reading(worker("a"), used=GIB)) == [mp.ShrinkStore(0)]
    assert scene.policy.is_calm


def test_store_that_has_stopped_shrinking_is_not_waited_for():
    scene = Scene()
    scene.tell(reading(worker("a"), store=4 * GIB))

    effects = scene.tell(reading(worker("a"), store=4 * GIB), after_ms=mp.SHRINK_STALL_MS)

    assert mp.EndWorker(b"a", has_company=False) in effects


def test_store_that_shrinks_for_ever_is_waited_for_so_long_and_no_longer():
    scene = Scene()
    store = 4 * GIB
    for _ in range(0, mp.SHRINK_MS_MAX, 250):
        store -= MIB
        assert not any(isinstance(e, mp.EndWorker) for e in scene.tell(reading(worker("a"), store=store)))

    assert any(isinstance(e, mp.EndWorker) for e in scene.tell(reading(worker("a"), store=store - MIB)))


def test_memory_that_is_nearly_gone_does_not_wait_for_the_store():
    effects = Scene().tell(reading(worker("a"), used=CRITICAL, store=4 * GIB))

    assert [type(effect) for effect in effects] == [mp.ShrinkStore, mp.EndWorker]


def test_one_victim_at_a_time_and_a_pause_after_its_end():
    scene = Scene()
    both = [worker("a", started_ms=1), worker("b", started_ms=2)]

    assert scene.tell(reading(*both, used=CRITICAL)) == [mp.EndWorker(b"b", has_company=True)]
    assert scene.tell(reading(*both, used=CRITICAL)) == []
    assert scene.tell(mp.WorkerEnded(b"b")) == []
    assert scene.tell(reading(both[0], used=CRITICAL)) == []
    assert scene.tell(reading(both[0], used=CRITICAL), after_ms=mp.COOL_DOWN_MS) == [mp.EndWorker(b"a", False)]


def test_victim_that_hangs_in_the_kernel_does_not_hold_up_the_next_one():
    scene = Scene()
    stuck, other = worker("stuck", started_ms=2), worker("other", started_ms=1)
    scene.tell(reading(stuck, other))

    assert scene.tell(reading(other), after_ms=mp.VICTIM_MS) == [mp.EndWorker(b"other", has_company=False)]


def test_end_of_somebody_else_is_no_end_of_the_victim():
    scene = Scene()
    scene.tell(reading(worker("a", started_ms=1), worker("b", started_ms=2)))

    scene.tell(mp.WorkerEnded(b"a"))

    assert scene.policy.state is mp.State.ENDING


def test_story_of_a_worker_tells_how_it_came_to_be_ended():
    scene = Scene()
    scene.tell(reading(worker("hog", mib=2048)))

    assert f"ended with {2048 * MIB} bytes" in scene.policy.story(b"hog")


@pytest.mark.parametrize("threshold", [1.0, 0.5])
def test_threshold_moves_the_limit(threshold):
    policy = mp.MemoryPolicy(threshold)

    assert policy.is_short(int(LIMIT * threshold) + 1, LIMIT)
    assert not policy.is_short(int(LIMIT * threshold), LIMIT)
