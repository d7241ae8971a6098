"""Semantics of actors, as Ray 2.60 has them: life and death, order and concurrency of calls, owners."""

from __future__ import annotations

import asyncio
import gc
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import raybook as ray

pytestmark = [pytest.mark.usefixtures("cluster"), pytest.mark.timeout(30)]


# --- Life and death of actors ------------------------------------------------


def test_error_in_the_constructor_is_the_cause_in_every_later_call():
    @ray.remote
    class Broken:
        def __init__(self):
            raise ValueError("the constructor gave up")

        def use(self):
            return 1

    broken = Broken.remote()
    for _ in range(2):
        with pytest.raises(ray.exceptions.ActorDiedError, match="the constructor gave up"):
            ray.get(broken.use.remote())


def test_error_in_a_method_leaves_the_actor_alive():
    @ray.remote
    class Fragile:
        def __init__(self):
            self.n = 0

        def step(self, fail=False):
            self.n += 1
            if fail:
                raise ValueError("this call only")
            return self.n

    fragile = Fragile.remote()
    assert ray.get(fragile.step.remote()) == 1
    with pytest.raises(ValueError, match="this call only"):
        ray.get(fragile.step.remote(fail=True))
    assert ray.get(fragile.step.remote()) == 3


def make_mortal_class() -> object:
    @ray.remote
    class Mortal:
        def __init__(self):
            self.calls = 0

        def call(self):
            self.calls += 1
            return self.calls

        def pid(self):
            return os.getpid()

        def die(self):
            os._exit(1)

    return Mortal


def test_actor_whose_process_dies_is_dead():
    mortal = make_mortal_class().remote()
    assert ray.get(mortal.call.remote()) == 1
    with pytest.raises(ray.exceptions.ActorDiedError):
        ray.get(mortal.die.remote())
    with pytest.raises(ray.exceptions.ActorDiedError):
        ray.get(mortal.call.remote())


def answers_again(actor: object, method: str) -> Callable[[], bool]:
    """Whether a restarting actor answers: until then its calls may fail with ActorUnavailableError."""

    def check() -> bool:
        try:
            ray.get(getattr(actor, method).remote())
        except ray.exceptions.ActorUnavailableError:
            return False
        return True

    return check


def test_actor_with_a_restart_comes_back_in_another_process_with_fresh_state(eventually: Callable[..., None]):
    mortal = make_mortal_class().options(max_restarts=1).remote()
    assert ray.get([mortal.call.remote() for _ in range(3)]) == [1, 2, 3]
    before = ray.get(mortal.pid.remote())
    with pytest.raises(ray.exceptions.RayActorError):
        ray.get(mortal.die.remote())
    eventually(answers_again(mortal, "pid"))
    assert ray.get(mortal.pid.remote()) != before
    assert ray.get(mortal.call.remote()) == 1


def test_actor_dies_for_good_when_its_restarts_are_used_up(eventually: Callable[..., None]):
    mortal = make_mortal_class().options(max_restarts=1).remote()
    with pytest.raises(ray.exceptions.RayActorError):
        ray.get(mortal.die.remote())
    eventually(answers_again(mortal, "pid"))
    with pytest.raises(ray.exceptions.ActorDiedError):
        ray.get(mortal.die.remote())
    with pytest.raises(ray.exceptions.ActorDiedError):
        ray.get(mortal.call.remote())


def test_call_with_retries_is_repeated_on_the_restarted_actor(attempts: Callable[[], int], recorded: Callable[[], int]):
    @ray.remote(max_restarts=2, max_task_retries=2)
    class Mortal:
        def die_twice(self):
            if attempts() < 3:
                os._exit(1)
            return "third time"

    mortal = Mortal.remote()
    assert ray.get(mortal.die_twice.remote()) == "third time"
    assert recorded() == 3


def test_killed_actor_is_dead_and_the_error_says_who_did_it():
    mortal = make_mortal_class().remote()
    ray.get(mortal.call.remote())
    ray.kill(mortal)
    with pytest.raises(ray.exceptions.ActorDiedError, match=r"killed by `ray\.kill`"):
        ray.get(mortal.call.remote())


def test_kill_ends_a_call_that_is_running(gate: object):
    @ray.remote
    class Busy:
        def hang(self, gate):
            ray.get(gate.arrive.remote())
            while True:
                time.sleep(0.01)

    busy = Busy.remote()
    ref = busy.hang.remote(gate)
    ray.get(gate.arrived.remote(1))
    ray.kill(busy)
    with pytest.raises(ray.exceptions.ActorDiedError):
        ray.get(ref)


def test_kill_with_restart_gives_a_fresh_actor(eventually: Callable[..., None]):
    mortal = make_mortal_class().options(max_restarts=-1).remote()
    before = ray.get(mortal.pid.remote())
    ray.kill(mortal, no_restart=False)

    def is_new() -> bool:
        try:
            return ray.get(mortal.pid.remote()) != before
        except ray.exceptions.RayActorError:
            return False

    eventually(is_new)


def test_terminated_actor_finishes_the_calls_before_it():
    mortal = make_mortal_class().remote()
    calls = [mortal.call.remote() for _ in range(3)]
    mortal.__ray_terminate__.remote()
    assert ray.get(calls) == [1, 2, 3]
    with pytest.raises(ray.exceptions.ActorDiedError):
        ray.get(mortal.call.remote())


def test_exit_actor_never_returns_and_ends_the_actor():
    @ray.remote
    class Quitter:
        def quit(self):
            ray.actor.exit_actor()
            return "returned"

        def use(self):
            return 1

    quitter = Quitter.remote()
    with pytest.raises(ray.exceptions.RayActorError):
        ray.get(quitter.quit.remote())
    with pytest.raises(ray.exceptions.ActorDiedError):
        ray.get(quitter.use.remote())


def process_is_gone(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return True
    return state == "Z"


def test_actor_ends_when_its_last_handle_is_gone(eventually: Callable[..., None]):
    mortal = make_mortal_class().remote()
    pid = ray.get(mortal.pid.remote())
    del mortal
    gc.collect()
    eventually(lambda: process_is_gone(pid))


def test_calls_submitted_before_the_last_handle_is_gone_are_finished(gate: object):
    @ray.remote
    class Worker:
        def work(self, _, value):
            return value

    refs = [Worker.remote().work.remote(gate.wait.remote(), 5)]
    gc.collect()
    gate.open.remote()
    assert ray.get(refs) == [5]


def test_handle_inside_a_task_keeps_the_actor_alive(gate: object):
    @ray.remote
    def use_later(mortal, gate):
        ray.get(gate.arrive.remote())
        ray.get(gate.wait.remote())
        return ray.get(mortal.call.remote())

    mortal = make_mortal_class().remote()
    ref = use_later.remote(mortal, gate)
    ray.get(gate.arrived.remote(1))
    del mortal
    gc.collect()
    gate.open.remote()
    assert ray.get(ref) == 1


def test_named_actor_is_no_longer_found_once_it_is_dead(eventually: Callable[..., None]):
    mortal = make_mortal_class().options(name="mortal").remote()
    ray.get(mortal.call.remote())
    ray.kill(mortal)

    def is_unknown() -> bool:
        try:
            ray.get_actor("mortal")
        except ValueError:
            return True
        return False

    eventually(is_unknown)
    second = make_mortal_class().options(name="mortal").remote()
    assert ray.get(second.call.remote()) == 1


# --- Order and concurrency of calls ------------------------------------------


def test_calls_of_one_caller_run_in_the_order_of_submission():
    @ray.remote
    class Log:
        def __init__(self):
            self.items = []

        def add(self, item):
            self.items.append(item)

        def all(self):
            return self.items

    log = Log.remote()
    for i in range(200):
        log.add.remote(i)
    assert ray.get(log.all.remote()) == list(range(200))


def test_call_with_a_pending_argument_keeps_its_place_in_the_order(gate: object):
    @ray.remote
    class Log:
        def __init__(self):
            self.items = []

        def add(self, item, _=None):
            self.items.append(item)
            return list(self.items)

    log = Log.remote()
    first = log.add.remote("first", gate.wait.remote())
    second = log.add.remote("second")
    gate.open.remote()
    assert ray.get([first, second]) == [["first"], ["first", "second"]]


def test_plain_actor_runs_one_call_at_a_time():
    @ray.remote
    class Alone:
        def __init__(self):
            self.inside = 0
            self.most = 0

        def enter(self):
            self.inside += 1
            self.most = max(self.most, self.inside)
            time.sleep(0.001)
            self.inside -= 1
            return self.most

    alone = Alone.remote()
    assert max(ray.get([alone.enter.remote() for _ in range(20)])) == 1


def test_threaded_actor_runs_as_many_calls_at_once_as_asked(gate: object):
    @ray.remote(max_concurrency=3)
    class Threaded:
        def meet(self, gate):
            ray.get(gate.arrive.remote())
            ray.get(gate.wait.remote())
            return threading.get_ident()

    threaded = Threaded.remote()
    refs = [threaded.meet.remote(gate) for _ in range(6)]
    ray.get(gate.arrived.remote(3))
    assert ray.get(gate.count.remote()) == 3
    gate.open.remote()
    assert len(set(ray.get(refs))) == 3


def test_async_actor_runs_everything_on_one_thread():
    @ray.remote
    class Async:
        async def coroutine(self):
            return threading.get_ident()

        def plain(self):
            return threading.get_ident()

        def threads(self):
            return threading.active_count()

    actor = Async.remote()
    refs = [actor.coroutine.remote() for _ in range(50)] + [actor.plain.remote()]
    assert len(set(ray.get(refs))) == 1
    assert ray.get(actor.threads.remote()) < 50


def test_async_actor_can_await_refs_of_others():
    @ray.remote
    def square(x):
        return x * x

    @ray.remote
    class Async:
        async def sum_of_squares(self, count):
            return sum(await asyncio.gather(*[square.remote(i) for i in range(count)]))

    assert ray.get(Async.remote().sum_of_squares.remote(4)) == 14


def test_async_actor_keeps_to_its_limit_of_concurrent_calls(gate: object):
    @ray.remote(max_concurrency=2)
    class Async:
        async def meet(self, gate):
            await gate.arrive.remote()
            await gate.wait.remote()

    actor = Async.remote()
    refs = [actor.meet.remote(gate) for _ in range(5)]
    ray.get(gate.arrived.remote(2))
    assert ray.get(gate.count.remote()) == 2
    gate.open.remote()
    ray.get(refs)
    assert ray.get(gate.count.remote()) == 5


def test_blocked_concurrency_group_does_not_block_the_others(gate: object):
    @ray.remote(concurrency_groups={"io": 1, "compute": 1})
    class Grouped:
        @ray.method(concurrency_group="io")
        def block(self, gate):
            return ray.get(gate.wait.remote())

        @ray.method(concurrency_group="compute")
        def compute(self):
            return "computed"

        def default(self):
            return "default"

    grouped = Grouped.remote()
    blocked = grouped.block.remote(gate)
    assert ray.get([grouped.compute.remote(), grouped.default.remote()]) == ["computed", "default"]
    assert ray.wait([blocked], timeout=0) == ([], [blocked])
    gate.open.remote()
    ray.get(blocked)


# --- Owners ------------------------------------------------------------------


def test_object_dies_with_the_worker_that_owns_it(eventually: Callable[..., None]):
    @ray.remote
    class Owner:
        def make(self):
            return [ray.put(np.zeros(100_000))]

    owner = Owner.remote()
    ref = ray.get(owner.make.remote())[0]
    ray.kill(owner)
    with pytest.raises(ray.exceptions.ActorDiedError):
        ray.get(owner.make.remote())

    def is_lost() -> bool:
        try:
            ray.get(ref, timeout=10)
        except ray.exceptions.OwnerDiedError:
            return True
        return False

    eventually(is_lost)
