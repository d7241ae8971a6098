"""Seeded worlds: whatever the seed and the faults, every checker is content. And the worlds themselves can be trusted:
they are the same every time, they do what users do, and a failure says how to see it again."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter

import pytest

from raybook.core.owner.wait_set import WaitSet
from raybook.protocol.messages import worker as worker_messages
from raybook.sim.cases import draw_setting, make_world, shrink, violation_of
from raybook.sim.faults import Fault, describe, parse_schedule
from raybook.sim.world import Setting, World

BATCH = 25


@pytest.mark.slow
@pytest.mark.parametrize("first", range(0, 75, BATCH))
def test_nothing_breaks_when_nothing_goes_wrong(first: int) -> None:
    for seed in range(first, first + BATCH):
        make_world(seed, calm=True).run()


@pytest.mark.slow
@pytest.mark.parametrize("first", range(0, 100, BATCH))
def test_crashes_delays_and_restarts_break_no_promise(first: int) -> None:
    for seed in range(first, first + BATCH):
        make_world(seed).run()


@pytest.mark.soak
@pytest.mark.timeout(1_800)
@pytest.mark.parametrize("calm", [False, True])
@pytest.mark.parametrize("first", range(100, 1_000, 100))
def test_hundreds_of_seeds_more_break_no_promise(first: int, calm: bool) -> None:
    for seed in range(first, first + 100):
        make_world(seed, calm=calm).run()


@pytest.mark.slow
def test_worlds_do_everything_that_users_do() -> None:
    kinds: Counter[str] = Counter()
    ends: Counter[str] = Counter()
    for seed in range(40):
        world = make_world(seed).run()
        kinds.update(world.network.kinds)
        ends.update(world.ledger.ends)

    spoken = {name for name, kind in vars(worker_messages).items() if getattr(kind, "__struct_config__", None)}
    told = {name for name in spoken if getattr(vars(worker_messages)[name].__struct_config__, "tag", None) is not None}
    # Functions need no code here.
    assert told - kinds.keys() == {"ForgetFunctions", "SendFunction"}
    assert {"Blocked", "RevokeLease", "SpillWanted", "ReclaimQuery", "WorkerExiting", "ActorDown"} <= kinds.keys()
    assert {"value", "task", "TaskCancelledError", "WorkerCrashedError", "ActorDiedError"} <= ends.keys()


def test_the_same_seed_gives_the_same_trace() -> None:
    first, second = make_world(11).run(), make_world(11).run()

    assert (first.network.trace, first.timeline.happened) == (second.network.trace, second.timeline.happened)
    assert make_world(12).run().network.trace != first.network.trace


@pytest.mark.slow
def test_the_trace_does_not_depend_on_the_order_of_hashes() -> None:
    program = "from raybook.sim.cases import make_world; print([make_world(s).run().network.trace for s in range(6)])"
    traces = set()
    for hash_seed in ("1", "2"):
        environment = {**os.environ, "PYTHONHASHSEED": hash_seed, "PYTHONPATH": os.pathsep.join(sys.path)}
        ran = subprocess.run(
            [sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True
        )
        traces.add(ran.stdout)

    assert len(traces) == 1


def test_faults_do_not_change_what_is_asked_of_the_cluster() -> None:
    calm = World(3, draw_setting(3))
    stormy = World(3, draw_setting(3), (Fault(1, "crash"),))

    assert calm.check.liveness is not stormy.check.liveness
    assert calm.run().ledger.tasks.keys() & stormy.run().ledger.tasks.keys()


def test_a_schedule_is_read_back_as_it_is_printed() -> None:
    schedule = (Fault(18, "slow", 0.5), Fault(380, "crash", 3), Fault(900, "gcs", 2000))

    assert parse_schedule(describe(schedule)) == schedule


def test_a_schedule_that_is_none_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match="'12 ms: fire' is no fault"):
        parse_schedule("3 ms: crash 1; 12 ms: fire")


def test_a_failure_is_shrunk_and_says_how_to_play_it_again(monkeypatch: pytest.MonkeyPatch) -> None:
    ready = WaitSet.ready
    monkeypatch.setattr(WaitSet, "ready", lambda self, key, failed: ready(self, key, failed)[1:])
    violation = violation_of(make_world(1))
    assert violation is not None and violation.checker == "liveness"

    smaller = str(shrink(1, violation))

    assert "python -m raybook.sim --seed 1 --steps" in smaller and '--faults ""' in smaller
    assert "story of" in smaller and "latest messages:" in smaller


def test_a_world_without_a_program_comes_to_rest_at_once() -> None:
    world = World(0, Setting(steps=0)).run()

    assert not world.ledger.tasks
