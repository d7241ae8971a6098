"""Soak's work: what a busy notebook does, one function a kind, each of which checks every result it gets.

A piece of work takes the engine's module, a generator of its own chance (so that a seed names a run) and a folder, makes
what it needs, checks it and lets go of all of it. It raises AssertionError, or whatever the engine raised, when a result
is wrong; it never waits longer than `PATIENCE_S` for anything. Several run at once, in threads of one driver.

Workers are killed only from within, by a task that runs in them: whatever else lies in that worker's hands is then a
task that may be run again. Values that must outlive a worker belong to the driver or to an actor.
"""

from __future__ import annotations

import gc
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from random import Random
from types import ModuleType
from typing import Any

import numpy as np

PATIENCE_S = 60.0
LARGE_BYTES_MIN, LARGE_BYTES_MAX = 1 << 20, 12 << 20

Work = Callable[[ModuleType, Random, Path], None]


def check(found: object, expected: object) -> None:
    """AssertionError that shows both when they differ."""
    if found != expected:
        raise AssertionError(f"got {str(found)[:200]!r}, expected {str(expected)[:200]!r}")


def pattern(seed: int, size_bytes: int) -> np.ndarray:
    """Bytes that only this seed gives, cheaply."""
    return (np.arange(size_bytes // 8, dtype=np.uint64) * np.uint64(seed * 2 + 1)).view(np.uint8)


def digest(value: np.ndarray) -> int:
    """Of a pattern: order and content count."""
    words = value.view(np.uint64)
    return int(np.bitwise_xor.reduce(words * (np.arange(len(words), dtype=np.uint64) | np.uint64(1))))


# --- Tasks ----------------------------------------------------------------------------------------


def fan(ray: ModuleType, chance: Random, folder: Path) -> None:
    """Many small tasks at once."""

    @ray.remote
    def square(x: int) -> int:
        return x * x

    count = chance.choice([10, 100, 1_000, 3_000])
    check(ray.get([square.remote(i) for i in range(count)], timeout=PATIENCE_S), [i * i for i in range(count)])


def chain(ray: ModuleType, chance: Random, folder: Path) -> None:
    """Each takes the result of the one before."""

    @ray.remote
    def add(x: int, y: int) -> int:
        return x + y

    ref = ray.put(0)
    for step in range(chance.choice([5, 100])):
        ref = add.remote(ref, step)
    check(ray.get(ref, timeout=PATIENCE_S), step * (step + 1) // 2)


def tree(ray: ModuleType, chance: Random, folder: Path) -> None:
    """Tasks that make tasks, deeper than there are CPUs."""

    @ray.remote
    def grow(depth: int) -> int:
        return 1 if depth == 0 else 1 + sum(ray.get([grow.remote(depth - 1), grow.remote(depth - 1)]))

    depth = chance.choice([2, 3, 4])
    check(ray.get(grow.remote(depth), timeout=PATIENCE_S), 2 ** (depth + 1) - 1)


def several_returns(ray: ModuleType, chance: Random, folder: Path) -> None:
    """A task of many returns, of which some are dropped unread."""
    count = chance.choice([3, 50])

    @ray.remote(num_returns=count)
    def parts() -> list[int]:
        return list(range(count))

    refs = parts.remote()
    kept = chance.sample(range(count), 2)
    check(ray.get([refs[i] for i in kept], timeout=PATIENCE_S), kept)


def wait_some(ray: ModuleType, chance: Random, folder: Path) -> None:
    """As they finish."""

    @ray.remote
    def slowly(x: int) -> int:
        time.sleep(0.002 * (x % 3))
        return x

    left, seen = [slowly.remote(i) for i in range(60)], []
    while left:
        done, left = ray.wait(left, num_returns=min(len(left), chance.choice([1, 5])), timeout=PATIENCE_S)
        assert done, f"{len(left)} tasks were not done after {PATIENCE_S:g} s"
        seen += ray.get(done)
    check(sorted(seen), list(range(60)))


def failing(ray: ModuleType, chance: Random, folder: Path) -> None:
    """Errors reach whoever asks, also through the tasks that depend on them."""

    @ray.remote
    def fail(x: int) -> int:
        raise ValueError(f"no {x}")

    @ray.remote
    def take(x: int) -> int:
        return x

    for ref in (fail.remote(7), take.remote(fail.remote(7))):
        try:
            ray.get(ref, timeout=PATIENCE_S)
        except ValueError as error:
            assert "no 7" in str(error)
        else:
            raise AssertionError("an error was lost")


def redefined(ray: ModuleType, chance: Random, folder: Path) -> None:
    """A cell that is run again with another constant in it."""
    constant = chance.randrange(1 << 30)

    @ray.remote
    def constantly() -> int:
        return constant

    check(ray.get([constantly.remote() for _ in range(5)], timeout=PATIENCE_S), [constant] * 5)


def suicidal(ray: ModuleType, chance: Random, folder: Path) -> None:
    """Workers die by SIGKILL under their task, which runs again; others wait in their queues meanwhile."""
    marks = folder / f"{chance.getrandbits(64):x}"
    deaths = chance.choice([1, 2])

    @ray.remote(max_retries=3)
    def die(mark: str, times: int) -> int:
        with open(mark, "ab") as file:
            file.write(b".")
        lives = os.path.getsize(mark)
        if lives <= times:
            os.kill(os.getpid(), signal.SIGKILL)
        return lives

    @ray.remote
    def live(x: int) -> int:
        return x

    others = [live.remote(i) for i in range(50)]
    # Once more when another one of these died right behind it, before its answer was sent: at least once is the promise.
    check(ray.get(die.remote(str(marks), deaths), timeout=PATIENCE_S) - deaths in (1, 2), True)
    check(ray.get(others, timeout=PATIENCE_S), list(range(50)))
    marks.unlink()


def hopeless(ray: ModuleType, chance: Random, folder: Path) -> None:
    """A task that kills its worker and may not be run again is an error."""

    @ray.remote(max_retries=0)
    def die() -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    try:
        ray.get(die.remote(), timeout=PATIENCE_S)
    except ray.exceptions.WorkerCrashedError:
        return
    raise AssertionError("a task whose worker died had a result")


def cancelled(ray: ModuleType, chance: Random, folder: Path) -> None:
    """Running and waiting tasks are cancelled; those that were not, finish."""

    @ray.remote
    def linger(seconds: float) -> str:
        time.sleep(seconds)
        return "done"

    long = [linger.remote(100) for _ in range(chance.choice([1, 3, 8]))]
    short = [linger.remote(0) for _ in range(5)]
    time.sleep(chance.choice([0, 0.02]))
    force = chance.random() < 0.3
    for ref in long:
        ray.cancel(ref, force=force)
    for ref in long:
        try:
            ray.get(ref, timeout=PATIENCE_S)
        except (ray.exceptions.TaskCancelledError, ray.exceptions.WorkerCrashedError):
            continue
        raise AssertionError("a cancelled task had a result")
    check(ray.get(short, timeout=PATIENCE_S), ["done"] * 5)


# --- Objects --------------------------------------------------------------------------------------


def large_objects(ray: ModuleType, chance: Random, folder: Path) -> None:
    """More than the store holds, read back in another order: some of it comes from disk."""
    seeds = [chance.randrange(1 << 16) for _ in range(chance.choice([4, 16]))]
    sizes = [chance.randrange(LARGE_BYTES_MIN, LARGE_BYTES_MAX) // 8 * 8 for _ in seeds]
    refs = [ray.put(pattern(seed, size)) for seed, size in zip(seeds, sizes, strict=True)]
    order = list(range(len(refs)))
    chance.shuffle(order)
    for i in order:
        check(digest(ray.get(refs[i], timeout=PATIENCE_S)), digest(pattern(seeds[i], sizes[i])))


def large_returns(ray: ModuleType, chance: Random, folder: Path) -> None:
    """Tasks that make large arrays for tasks that read them; the driver sees digests."""

    @ray.remote
    def make(seed: int, size: int) -> np.ndarray:
        return pattern(seed, size)

    @ray.remote
    def read(value: np.ndarray) -> int:
        return digest(value)

    size = chance.randrange(LARGE_BYTES_MIN, LARGE_BYTES_MAX) // 8 * 8
    seeds = [chance.randrange(1 << 16) for _ in range(6)]
    digests = ray.get([read.remote(make.remote(seed, size)) for seed in seeds], timeout=PATIENCE_S)
    check(digests, [digest(pattern(seed, size)) for seed in seeds])


def nested_refs(ray: ModuleType, chance: Random, folder: Path) -> None:
    """Refs in lists in objects, through tasks, made by an actor that goes away at the end."""

    @ray.remote(num_cpus=0)
    class Maker:
        def make(self, count: int) -> list[Any]:
            return [ray.put(i) for i in range(count)]

    @ray.remote
    def double(box: dict[str, list[Any]]) -> list[int]:
        return [2 * value for value in ray.get(box["refs"])]

    maker = Maker.remote()
    count = chance.choice([5, 200])
    theirs = ray.get(maker.make.remote(count), timeout=PATIENCE_S)
    mine = [ray.put(i) for i in range(count)]
    outer = ray.put({"refs": theirs + mine})
    del theirs
    check(ray.get(double.remote(outer), timeout=PATIENCE_S), [2 * i for i in range(count)] * 2)
    inner = ray.get(outer, timeout=PATIENCE_S)["refs"]
    del outer, mine
    check(ray.get(inner, timeout=PATIENCE_S), list(range(count)) * 2)
    del maker


def cyclic_garbage(ray: ModuleType, chance: Random, folder: Path) -> None:
    """Refs and handles in cycles, which only the collector finds."""
    box: list[Any] = [ray.put(b"x" * 200_000), ray.put(1)]
    box.append(box)
    del box
    gc.collect()


def generated(ray: ModuleType, chance: Random, folder: Path) -> None:
    """Streams: read to their end, left half-way, and failing on the way."""

    @ray.remote(num_returns="streaming")
    def count(limit: int, size: int, bad: int) -> Any:
        for i in range(limit):
            if i == bad:
                raise RuntimeError("bad item")
            yield np.full(size, i, dtype=np.int64)

    size = chance.choice([1, 40_000])
    check([int(ray.get(ref)[0]) for ref in count.remote(20, size, -1)], list(range(20)))
    left = count.remote(50, size, -1)
    check(int(ray.get(next(left))[0]), 0)
    del left
    seen = 0
    try:
        for ref in count.remote(5, size, 3):
            ray.get(ref)
            seen += 1
    except RuntimeError:
        check(seen, 3)
    else:
        raise AssertionError("the error of a stream was lost")


# --- Actors ---------------------------------------------------------------------------------------


def counters(ray: ModuleType, chance: Random, folder: Path) -> None:
    """Actors that keep state; ended by letting go, or by kill."""

    @ray.remote(num_cpus=0)
    class Counter:
        def __init__(self, start: int) -> None:
            self.count = start

        def add(self, x: int) -> int:
            self.count += x
            return self.count

    actors = [Counter.remote(i) for i in range(chance.choice([1, 3]))]
    for start, actor in enumerate(actors):
        check(ray.get([actor.add.remote(1) for _ in range(100)], timeout=PATIENCE_S)[-1], start + 100)
    if chance.random() < 0.5:
        for actor in actors:
            ray.kill(actor)
        try:
            ray.get(actors[0].add.remote(1), timeout=PATIENCE_S)
        except ray.exceptions.RayActorError:
            return
        raise AssertionError("a killed actor answered")


def restarted(ray: ModuleType, chance: Random, folder: Path) -> None:
    """An actor that is killed by SIGKILL comes back, and the calls that it may repeat are repeated."""

    @ray.remote(num_cpus=0, max_restarts=2, max_task_retries=3)
    class Phoenix:
        def pid(self) -> int:
            return os.getpid()

    actor = Phoenix.remote()
    first = ray.get(actor.pid.remote(), timeout=PATIENCE_S)
    calls = [actor.pid.remote() for _ in range(20)]
    os.kill(first, signal.SIGKILL)
    pids = set(ray.get([*calls, actor.pid.remote()], timeout=PATIENCE_S)) - {first}
    assert pids <= {ray.get(actor.pid.remote(), timeout=PATIENCE_S)}, "an actor answered from more than one new process"


def named(ray: ModuleType, chance: Random, folder: Path) -> None:
    """A name is found, belongs to one, and is free again after the end."""

    @ray.remote(num_cpus=0)
    class Registry:
        def hello(self) -> str:
            return "hello"

    name = f"registry-{chance.getrandbits(64):x}"
    mine = Registry.options(name=name).remote()
    check(ray.get(ray.get_actor(name).hello.remote(), timeout=PATIENCE_S), "hello")
    again = Registry.options(name=name, get_if_exists=True).remote()
    check(again._actor_id, mine._actor_id)
    ray.kill(mine)
    end = time.monotonic() + PATIENCE_S
    while True:
        try:
            other = Registry.options(name=name).remote()
            break
        except ValueError:
            assert time.monotonic() < end, "the name of a killed actor is still taken"
            time.sleep(0.01)
    check(ray.get(other.hello.remote(), timeout=PATIENCE_S), "hello")


def asynchronous(ray: ModuleType, chance: Random, folder: Path) -> None:
    """Hundreds of calls at once in one async actor, some of them cancelled."""

    @ray.remote(num_cpus=0)
    class Hub:
        def __init__(self) -> None:
            import asyncio

            self.gate = asyncio.Event()

        async def enter(self, x: int) -> int:
            await self.gate.wait()
            return x

        async def open(self) -> None:
            self.gate.set()

    hub = Hub.remote()
    waiting = [hub.enter.remote(i) for i in range(200)]
    for ref in waiting[:5]:
        ray.cancel(ref)
    ray.get(hub.open.remote(), timeout=PATIENCE_S)
    check(ray.get(waiting[5:], timeout=PATIENCE_S), list(range(5, 200)))
    for ref in waiting[:5]:
        try:
            check(ray.get(ref, timeout=PATIENCE_S) in range(5), True)
        except ray.exceptions.TaskCancelledError:
            continue


def threaded(ray: ModuleType, chance: Random, folder: Path) -> None:
    """Calls that run beside each other in threads of one actor."""

    @ray.remote(num_cpus=0, max_concurrency=4)
    class Pool:
        def work(self, x: int) -> int:
            time.sleep(0.001)
            return x

    pool = Pool.remote()
    check(ray.get([pool.work.remote(i) for i in range(40)], timeout=PATIENCE_S), list(range(40)))


def queued(ray: ModuleType, chance: Random, folder: Path) -> None:
    """A producer task and a consumer here, through a queue with little room."""
    from importlib import import_module

    queue = import_module(f"{ray.__name__}.util.queue").Queue(maxsize=5)

    @ray.remote
    def produce(queue: Any, count: int) -> int:
        for i in range(count):
            queue.put(i)
        return count

    done = produce.remote(queue, 30)
    check([queue.get(timeout=PATIENCE_S) for _ in range(30)], list(range(30)))
    check(ray.get(done, timeout=PATIENCE_S), 30)
    queue.shutdown()


def grouped(ray: ModuleType, chance: Random, folder: Path) -> None:
    """Placement groups: reserved, used, removed while used."""
    from importlib import import_module

    util = import_module(f"{ray.__name__}.util")
    strategies = import_module(f"{ray.__name__}.util.scheduling_strategies")
    group = util.placement_group([{"CPU": 0.5}] * chance.choice([1, 2]), strategy=chance.choice(["PACK", "SPREAD"]))
    assert group.wait(PATIENCE_S), "a placement group was not placed"
    strategy = strategies.PlacementGroupSchedulingStrategy(group)

    @ray.remote(num_cpus=0.5, scheduling_strategy=strategy)
    def inside(x: int) -> int:
        return x + 1

    check(ray.get([inside.remote(i) for i in range(10)], timeout=PATIENCE_S), list(range(1, 11)))
    if chance.random() < 0.3:

        @ray.remote(num_cpus=0.5, scheduling_strategy=strategy)
        def stay() -> None:
            time.sleep(100)

        ref = stay.remote()
        util.remove_placement_group(group)
        try:
            ray.get(ref, timeout=PATIENCE_S)
        except ray.exceptions.RayError:
            return
        raise AssertionError("a task outlived its placement group")
    util.remove_placement_group(group)


def printing(ray: ModuleType, chance: Random, folder: Path) -> None:
    """Output of workers, of which the driver shows all."""

    @ray.remote
    def talk(count: int) -> int:
        for i in range(count):
            print("line", i)
        return count

    check(ray.get(talk.remote(100), timeout=PATIENCE_S), 100)


WORKS: tuple[tuple[Work, int], ...] = (
    (fan, 4), (chain, 4), (tree, 3), (several_returns, 3), (wait_some, 2), (failing, 3), (redefined, 3), (suicidal, 2),
    (hopeless, 1), (cancelled, 3), (large_objects, 3), (large_returns, 3), (nested_refs, 4), (cyclic_garbage, 2),
    (generated, 3), (counters, 4), (restarted, 2), (named, 2), (asynchronous, 2), (threaded, 2), (queued, 2),
    (grouped, 2), (printing, 1),
)  # fmt: skip
"""Kinds of work and how often each is drawn, relative to the others."""
