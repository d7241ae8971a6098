"""Rows: one function per row of the core table, written against the public API alone.

Each takes the engine's module, so exactly the same code measures raybook and Ray, and a time box in seconds; each
returns one `Figure`. A row sets up what it needs, warms it up, measures for the length of the box and lets go of what
it made. It expects a running cluster and knows nothing of how it was started, of repeats, deadlines or tables.

The remote functions are defined inside the rows, as in a notebook: they travel by value, so workers need not find this
file. The four start-up rows need a fresh interpreter each and live in `startup_probe.py`.
"""

from __future__ import annotations

import importlib
import os
import time
from collections.abc import Callable
from types import ModuleType
from typing import Any

import numpy as np

from .figures import Figure

BATCH = 1000
"""Calls in flight together in the asynchronous rows: enough to fill every queue, few enough for a short box."""

MIB = 1024 * 1024
LARGE_BYTES = 400_000_000
"""Size of the `put large` rows: far beyond any cache, and eight of them fit the default store of a small machine."""

GET_BYTES = 50 * MIB
CONTAINED_REFS = 10_000
CHAIN_LENGTH = 500
MIB_BATCH = 64
"""Results of 1 MiB in flight together: 64 MiB, so the row measures the path and not the spilling."""


class NotYet(Exception):
    """The engine does not offer the API that this row needs."""


def require(ray: ModuleType, dotted: str) -> Any:
    """Look up `dotted` below the engine's module, importing submodules on the way. Raises NotYet where it misses."""
    found: Any = ray
    path = ray.__name__
    for name in dotted.split("."):
        path = f"{path}.{name}"
        if not hasattr(found, name):
            try:
                importlib.import_module(path)
            except ModuleNotFoundError as error:
                if error.name is None or not path.startswith(error.name):
                    raise
        if not hasattr(found, name):
            raise NotYet(f"{path} does not exist")
        found = getattr(found, name)
    return found


def rate(step: Callable[[], int], seconds: float) -> Figure:
    """Call `step` until the time box is full, at least once; divide the operations it reports by their time."""
    done = 0
    begin = time.perf_counter()
    end = begin + seconds
    while True:
        done += step()
        now = time.perf_counter()
        if now >= end:
            return Figure(done / (now - begin), "/s")


def callers() -> int:
    """How many tasks or actors work at once in the rows with several callers: one a core, at least two."""
    return max(2, os.cpu_count() or 2)


# --- Objects --------------------------------------------------------------------------------------


def small_get(ray: ModuleType, seconds: float) -> Figure:
    """`get` of one small value, again and again."""
    ref = ray.put(0)

    def step() -> int:
        for _ in range(100):
            ray.get(ref)
        return 100

    step()
    return rate(step, seconds)


def small_put(ray: ModuleType, seconds: float) -> Figure:
    """`put` of a small value; its ref is dropped at once."""

    def step() -> int:
        for _ in range(100):
            ray.put(0)
        return 100

    step()
    return rate(step, seconds)


def put_1mib(ray: ModuleType, seconds: float) -> Figure:
    """`put` of a 1 MiB array; its ref is dropped at once, so the same memory may serve again."""
    value = np.ones(MIB, dtype=np.uint8)

    def step() -> int:
        for _ in range(10):
            ray.put(value)
        return 10

    step()
    return rate(step, seconds)


def put_large_cold(ray: ModuleType, seconds: float) -> Figure:
    """The first `put` of 400 MB into a store that holds no memory yet: run it first on a fresh cluster, once."""
    value = np.ones(LARGE_BYTES, dtype=np.uint8)
    begin = time.perf_counter()
    ref = ray.put(value)
    elapsed = time.perf_counter() - begin
    del ref
    return Figure(value.nbytes / elapsed / 1e9, "GB/s")


def put_large_warm(ray: ModuleType, seconds: float) -> Figure:
    """`put` of 400 MB by a process that has done so before, into memory that was used before."""
    value = np.ones(LARGE_BYTES, dtype=np.uint8)

    def step() -> int:
        ray.put(value)
        return 1

    for _ in range(2):
        step()
    return Figure(rate(step, seconds).value * value.nbytes / 1e9, "GB/s")


def put_large_first_of_worker(ray: ModuleType, seconds: float) -> Figure:
    """The first `put` of 400 MB of a new worker, into memory that another process has used before."""
    ray.put(np.ones(LARGE_BYTES, dtype=np.uint8))

    @ray.remote
    class Putter:
        def first_put(self) -> float:
            value = np.ones(LARGE_BYTES, dtype=np.uint8)
            begin = time.perf_counter()
            ref = ray.put(value)
            elapsed = time.perf_counter() - begin
            del ref
            return value.nbytes / elapsed / 1e9

    putter = Putter.remote()  # type: ignore[attr-defined]
    value = ray.get(putter.first_put.remote())
    ray.kill(putter)
    return Figure(value, "GB/s")


def get_50mib(ray: ModuleType, seconds: float) -> Figure:
    """`get` of a 50 MiB array that lies in the local store."""
    ref = ray.put(np.ones(GET_BYTES, dtype=np.uint8))

    def step() -> int:
        for _ in range(10):
            ray.get(ref)
        return 10

    step()
    return rate(step, seconds)


def get_10k_refs(ray: ModuleType, seconds: float) -> Figure:
    """`get` of one object that holds 10,000 refs, all of them owned by another process."""

    @ray.remote
    def container() -> list:
        return [ray.put(i) for i in range(CONTAINED_REFS)]

    ref = container.remote()

    def step() -> int:
        refs = ray.get(ref)
        if len(refs) != CONTAINED_REFS:
            raise AssertionError(f"the container arrived with {len(refs)} refs")
        return 1

    step()
    return rate(step, seconds)


# --- Tasks ----------------------------------------------------------------------------------------


def task_sync(ray: ModuleType, seconds: float) -> Figure:
    """Submit one empty task and wait for it, again and again."""

    @ray.remote
    def nothing() -> None:
        return None

    def step() -> int:
        for _ in range(20):
            ray.get(nothing.remote())
        return 20

    step()
    return rate(step, seconds)


def task_async(ray: ModuleType, seconds: float) -> Figure:
    """Submit 1,000 empty tasks, then wait for all of them."""

    @ray.remote
    def nothing() -> None:
        return None

    def step() -> int:
        ray.get([nothing.remote() for _ in range(BATCH)])
        return BATCH

    step()
    return rate(step, seconds)


def submit_and_wait_1k(ray: ModuleType, seconds: float) -> Figure:
    """Submit 1,000 empty tasks and collect them one by one with `wait`, each call given all that are left."""

    @ray.remote
    def nothing() -> None:
        return None

    def step() -> int:
        left = [nothing.remote() for _ in range(BATCH)]
        while left:
            _, left = ray.wait(left)
        return BATCH

    step()
    return rate(step, seconds)


def argument_1mib(ray: ModuleType, seconds: float) -> Figure:
    """Submit 1,000 tasks that take the same 1 MiB object as an argument, then wait for all of them."""
    ref = ray.put(np.ones(MIB, dtype=np.uint8))

    @ray.remote
    def take(value: np.ndarray) -> None:
        return None

    def step() -> int:
        ray.get([take.remote(ref) for _ in range(BATCH)])
        return BATCH

    step()
    return rate(step, seconds)


def return_1mib(ray: ModuleType, seconds: float) -> Figure:
    """Submit 64 tasks that return 1 MiB each, then get all the arrays."""

    @ray.remote
    def make() -> np.ndarray:
        return np.ones(MIB, dtype=np.uint8)

    def step() -> int:
        values = ray.get([make.remote() for _ in range(MIB_BATCH)])
        return len(values)

    step()
    return rate(step, seconds)


def nested_submit(ray: ModuleType, seconds: float) -> Figure:
    """Tasks that submit 500 empty tasks each and wait for them, one such task a core; the inner tasks are counted."""
    inner = BATCH // 2

    @ray.remote
    def nothing() -> None:
        return None

    @ray.remote
    def submit(count: int) -> int:
        ray.get([nothing.remote() for _ in range(count)])
        return count

    def step() -> int:
        return sum(ray.get([submit.remote(inner) for _ in range(callers())]))

    step()
    return rate(step, seconds)


def dependency_chain(ray: ModuleType, seconds: float) -> Figure:
    """A chain of 500 tasks, each taking the ref of the one before; only the last result is fetched."""

    @ray.remote
    def add_one(value: int) -> int:
        return value + 1

    def step() -> int:
        ref = add_one.remote(0)
        for _ in range(CHAIN_LENGTH - 1):
            ref = add_one.remote(ref)
        return ray.get(ref)

    step()
    return rate(step, seconds)


# --- Actors ---------------------------------------------------------------------------------------


def make_actor_class(ray: ModuleType) -> Any:
    @ray.remote
    class Server:
        def nothing(self) -> None:
            return None

    return Server


def make_async_actor_class(ray: ModuleType) -> Any:
    @ray.remote
    class AsyncServer:
        async def nothing(self) -> None:
            return None

    return AsyncServer


def call_one_by_one(ray: ModuleType, actor: Any, seconds: float) -> Figure:
    def step() -> int:
        for _ in range(20):
            ray.get(actor.nothing.remote())
        return 20

    step()
    figure = rate(step, seconds)
    ray.kill(actor)
    return figure


def call_in_batches(ray: ModuleType, actor: Any, seconds: float) -> Figure:
    def step() -> int:
        ray.get([actor.nothing.remote() for _ in range(BATCH)])
        return BATCH

    step()
    figure = rate(step, seconds)
    ray.kill(actor)
    return figure


def actor_sync(ray: ModuleType, seconds: float) -> Figure:
    """Call an empty method and wait for it, again and again."""
    return call_one_by_one(ray, make_actor_class(ray).remote(), seconds)


def actor_async(ray: ModuleType, seconds: float) -> Figure:
    """Call an empty method 1,000 times, then wait for all calls."""
    return call_in_batches(ray, make_actor_class(ray).remote(), seconds)


def actor_n_to_n(ray: ModuleType, seconds: float) -> Figure:
    """One calling task a core, each calling 500 empty methods spread over as many actors, then waiting for them."""
    servers = [make_actor_class(ray).remote() for _ in range(callers())]
    calls = BATCH // 2

    @ray.remote(num_cpus=0)
    def call(actors: list, count: int) -> int:
        ray.get([actors[i % len(actors)].nothing.remote() for i in range(count)])
        return count

    def step() -> int:
        return sum(ray.get([call.remote(servers, calls) for _ in range(callers())]))

    step()
    figure = rate(step, seconds)
    for server in servers:
        ray.kill(server)
    return figure


def async_actor_sync(ray: ModuleType, seconds: float) -> Figure:
    """Call an empty coroutine method and wait for it, again and again."""
    return call_one_by_one(ray, make_async_actor_class(ray).remote(), seconds)


def async_actor_async(ray: ModuleType, seconds: float) -> Figure:
    """Call an empty coroutine method 1,000 times, then wait for all calls."""
    return call_in_batches(ray, make_async_actor_class(ray).remote(), seconds)


def actor_create_call_kill(ray: ModuleType, seconds: float) -> Figure:
    """Create an actor, call it once, kill it."""
    server_class = make_actor_class(ray)

    def step() -> int:
        actor = server_class.remote()
        ray.get(actor.nothing.remote())
        ray.kill(actor)
        return 1

    step()
    return rate(step, seconds)


# --- Placement groups -----------------------------------------------------------------------------


def placement_group_create_remove(ray: ModuleType, seconds: float) -> Figure:
    """Create 100 placement groups of one bundle, wait until each is there, remove them.

    `wait` and not `get(ready())`, which runs a task inside the group: Ray then measures the start of a worker. A
    hundred together and small ones, since Ray puts off a group that asks for what the one before has just given back.
    """
    create = require(ray, "util.placement_group")
    remove = require(ray, "util.remove_placement_group")
    count = 100

    def step() -> int:
        groups = [create([{"CPU": 0.01}]) for _ in range(count)]
        if not all(group.wait(30) for group in groups):
            raise AssertionError("a placement group that fits was not there after 30 s")
        for group in groups:
            remove(group)
        return count

    step()
    return rate(step, seconds)
