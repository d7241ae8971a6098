"""Faults: whatever breaks ends in a clear error within bounded time, and everything else goes on. Killed drivers are in
``test_head``, results that cannot be pickled also in ``test_bad_input``."""

from __future__ import annotations

import multiprocessing
import os
import random
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import ModuleType

import numpy as np
import psutil
import pytest

import raybook as ray
from raybook.api.context import started_engine
from raybook.api.inventory import worker_rows
from raybook.io.memory import private_bytes

pytestmark = pytest.mark.raybook_only

SEED = 20_261
KILLS = 60
MIB = 1 << 20


def answers(timeout_s: float = 20) -> bool:
    """Whether the cluster still does work."""
    return ray.get(ray.remote(lambda: 7).remote(), timeout=timeout_s) == 7


# --- Workers that are killed ------------------------------------------------------------------------------------------


@contextmanager
def killer(kills: int, spare: set[int]) -> Iterator[list[str]]:
    """SIGKILLs workers at seeded moments, whatever they are doing; the states they were in."""
    choose = random.Random(SEED)
    states: list[str] = []
    over = threading.Event()

    def kill() -> None:
        while len(states) < kills and not over.is_set():
            time.sleep(choose.random() * 0.04)
            living = [row for row in worker_rows() if row["pid"] and row["pid"] not in spare]
            if not living:
                continue
            victim = choose.choice(sorted(living, key=lambda row: row["pid"]))
            with suppress(ProcessLookupError):
                os.kill(victim["pid"], signal.SIGKILL)
                states.append(victim["state"])

    thread = threading.Thread(target=kill)
    thread.start()
    try:
        yield states
        thread.join()
    finally:
        over.set()
        thread.join()


@pytest.mark.slow
def test_sixty_workers_killed_at_any_moment_cost_no_result(cluster: ModuleType) -> None:
    """Before they have registered, while they read arguments, run, reply, or lie idle."""

    @ray.remote(max_retries=-1)
    def work(number: int, large: np.ndarray, small: list) -> np.ndarray:
        time.sleep(0.004)
        return np.full(40_000, number + int(large[number]) + small[0])

    @ray.remote(max_restarts=-1, max_task_retries=-1, num_cpus=0)
    class Adder:
        def add(self, number: int) -> int:
            time.sleep(0.002)
            return number + 1

    large = ray.put(np.arange(500_000))
    adders = [Adder.remote() for _ in range(2)]
    expected, refs = [], []
    with killer(KILLS, spare={os.getpid()}) as states:
        number = 0
        while len(states) < KILLS:
            refs.append(work.remote(number, large, [1]))
            expected.append(2 * number + 1)
            refs.append(adders[number % 2].add.remote(number))
            expected.append(number + 1)
            number += 1
            if number % 40 == 0:
                ray.wait(refs[-40:], num_returns=40, timeout=60)

    found = [int(np.ravel(value)[0]) for value in ray.get(refs, timeout=60)]

    assert found == expected
    assert len(states) == KILLS and len(set(states)) >= 3, states
    started_engine()._core.owner.check_invariants()
    assert answers()


def test_worker_killed_before_it_has_registered_delays_its_task_and_no_more(own_cluster: Callable[..., object]) -> None:
    own_cluster(num_cpus=1)
    assert answers()
    (head,) = psutil.Process().children()
    (zygote,) = [child for child in head.children() if child.children()]
    known = {child.pid for child in zygote.children()}
    ref = ray.remote(num_cpus=0)(lambda: ray.get(ray.remote(num_cpus=0)(lambda: 5).remote())).remote()

    killed = 0
    deadline = time.monotonic() + 5
    while killed < 1 and time.monotonic() < deadline:
        for child in zygote.children():
            if child.pid not in known:
                child.kill()
                killed += 1

    assert killed
    assert ray.get(ref, timeout=30) == 5


# --- What user code does badly ----------------------------------------------------------------------------------------


class Explosive:
    """Loads nowhere."""

    def __reduce__(self) -> tuple:
        return _explode, ()


def _explode() -> None:
    raise RuntimeError("it does not like to be unpickled")


@pytest.mark.parametrize("way", ["inline", "by reference", "large"])
def test_argument_that_cannot_be_unpickled_is_an_error_of_the_task(cluster: ModuleType, way: str) -> None:
    @ray.remote(max_retries=0)
    def take(value: object) -> int:
        return 1

    value = [Explosive(), bytes(MIB)] if way == "large" else Explosive()
    ref = take.remote(ray.put(value) if way == "by reference" else value)

    with pytest.raises(ray.exceptions.RayTaskError, match="does not like to be unpickled"):
        ray.get(ref, timeout=20)
    assert answers()


def test_actor_whose_init_raises_is_dead_with_that_cause(cluster: ModuleType) -> None:
    @ray.remote
    class Broken:
        def __init__(self) -> None:
            raise ValueError("no weights found")

        def ping(self) -> int:
            return 1

    broken = Broken.remote()

    for _ in range(2):
        with pytest.raises(ray.exceptions.ActorDiedError, match="no weights found"):
            ray.get(broken.ping.remote(), timeout=20)
    assert answers()


def test_actor_whose_init_hangs_blocks_nobody_and_can_be_killed(cluster: ModuleType) -> None:
    @ray.remote(num_cpus=0)
    class Stuck:
        def __init__(self) -> None:
            time.sleep(3600)

        def ping(self) -> int:
            return 1

    @ray.remote(num_cpus=0)
    class Fine:
        def ping(self) -> int:
            return 2

    stuck = Stuck.remote()
    waiting = stuck.ping.remote()
    with pytest.raises(ray.exceptions.GetTimeoutError):
        ray.get(waiting, timeout=0.2)

    assert ray.get(Fine.remote().ping.remote(), timeout=20) == 2
    ray.kill(stuck)
    with pytest.raises(ray.exceptions.ActorDiedError):
        ray.get(waiting, timeout=20)


def test_result_that_cannot_be_pickled_names_what_is_wrong_and_the_worker_goes_on(cluster: ModuleType) -> None:
    @ray.remote
    class Holder:
        def lock(self) -> object:
            return {"lock": threading.Lock()}

        def pid(self) -> int:
            return os.getpid()

    holder = Holder.remote()
    pid = ray.get(holder.pid.remote())

    with pytest.raises(TypeError, match="lock"):
        ray.get(holder.lock.remote(), timeout=20)
    assert ray.get(holder.pid.remote(), timeout=20) == pid


def test_endless_recursion_in_a_task_is_its_error(cluster: ModuleType) -> None:
    @ray.remote(max_retries=0)
    def dive(depth: int) -> int:
        return dive._function(depth + 1) if hasattr(dive, "_function") else 0

    @ray.remote(max_retries=0)
    def plain() -> int:
        def down(depth: int) -> int:
            return down(depth + 1)

        return down(0)

    with pytest.raises(RecursionError):
        ray.get(plain.remote(), timeout=20)
    with pytest.raises(RecursionError):
        ray.get(dive.remote(0), timeout=20)
    assert answers()


def test_tasks_nested_a_hundred_deep_finish_on_one_cpu(own_cluster: Callable[..., object]) -> None:
    own_cluster(num_cpus=1)

    @ray.remote
    def nested(depth: int) -> int:
        return 1 + ray.get(nested.remote(depth - 1)) if depth else 0

    assert ray.get(nested.remote(100), timeout=50) == 100


# --- Forks inside tasks -----------------------------------------------------------------------------------------------


def test_task_may_fork_and_its_child_disturbs_nobody(cluster: ModuleType) -> None:
    @ray.remote
    def forks(ref: list) -> tuple[int, int]:
        value = ray.get(ref[0])
        pid = os.fork()
        if pid == 0:
            del ref, value  # The child's copy of a reference counts for nothing.
            os._exit(7)
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), os.getpid()

    ref = ray.put(np.ones(MIB))
    results = ray.get([forks.remote([ref]) for _ in range(6)], timeout=30)

    assert [code for code, _ in results] == [7] * 6
    assert ray.get(ref)[5] == 1 and answers()


def test_child_of_a_task_that_uses_raybook_is_told_plainly(cluster: ModuleType) -> None:
    @ray.remote
    def forks(ref: list) -> str:
        reader, writer = os.pipe()
        pid = os.fork()
        if pid == 0:
            try:
                ray.get(ref[0])
                text = "it worked"
            except Exception as error:  # noqa: BLE001 - whatever it is, the parent is to see it.
                text = f"{type(error).__name__}: {error}"
            os.write(writer, text.encode())
            os._exit(0)
        os.waitpid(pid, 0)
        return os.read(reader, 10_000).decode()

    text = ray.get(forks.remote([ray.put(1)]), timeout=30)

    assert text.startswith("StaleReferenceError") and "forked" in text


@pytest.mark.parametrize("method", ["fork", "spawn"])
@pytest.mark.slow
def test_task_may_use_multiprocessing(cluster: ModuleType, method: str) -> None:
    @ray.remote
    def pooled() -> list[float]:
        import math

        with multiprocessing.get_context(method).Pool(2) as pool:
            return pool.map(math.sqrt, [1, 4, 9])

    assert ray.get(pooled.remote(), timeout=60) == [1, 2, 3]
    assert answers()


@pytest.mark.slow
def test_task_may_read_data_by_forked_loaders(cluster: ModuleType) -> None:
    pytest.importorskip("torch")

    @ray.remote
    def load() -> float:
        import torch

        data = torch.utils.data.TensorDataset(torch.arange(64.0))
        loader = torch.utils.data.DataLoader(data, batch_size=8, num_workers=2)
        return float(sum(batch[0].sum() for batch in loader))

    assert ray.get(load.remote(), timeout=60) == 2016
    assert answers()


# --- Output, and the end ----------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_worker_that_prints_a_gigabyte_fills_neither_memory_nor_disk(
    own_cluster: Callable[..., object], monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("RAY_ROTATION_MAX_BYTES", str(32 * MIB))
    own_cluster(num_cpus=1)
    (head,) = psutil.Process().children()
    logs = Path(started_engine().session_dir, "logs")

    @ray.remote
    def chatter() -> int:
        block = ("x" * 127 + "\n") * 8192
        for _ in range(1024):
            sys.stdout.write(block)
        return 1

    ref = chatter.remote()
    before = private_bytes(os.getpid()), private_bytes(head.pid)
    disk = []
    while not ray.wait([ref], timeout=0.1)[0]:
        disk.append(sum(path.stat().st_blocks * 512 for path in logs.glob("*")))
    assert ray.get(ref) == 1
    after = private_bytes(os.getpid()), private_bytes(head.pid)

    assert max(disk) < 256 * MIB
    assert after[0] - before[0] < 64 * MIB and after[1] - before[1] < 64 * MIB
    assert "raybook left out" in capfd.readouterr().out
    assert answers()


SURVIVOR = """
    import sys
    import raybook as ray

    @ray.remote
    def one():
        return 1

    @ray.remote
    class Actor:
        def one(self):
            return 1

    kept = []
    for cycle in range(2):
        ray.init(num_cpus=1)
        actor = Actor.remote()
        kept += [ray.put(b"x" * 1_000_000), one.remote(), actor, actor.one.remote()]
        kept.append(ray.get(kept[-4]))
        assert ray.get(kept[-2]) == 1
        ray.shutdown()
        for thing in kept:
            if isinstance(thing, bytes):
                continue
            try:
                ray.get(thing) if isinstance(thing, ray.ObjectRef) else thing.one.remote()
            except ray.exceptions.StaleReferenceError:
                continue
            raise AssertionError(thing)
        assert not ray.is_initialized(), "A stale reference started a cluster."
    ray.init(num_cpus=1)
    assert ray.get(one.remote()) == 1
    loop = [ray.put(1)]
    loop.append(loop)
    sys.kept = kept, loop
    print("the end")
"""


@pytest.mark.slow
def test_refs_and_handles_outlive_two_clusters_and_the_interpreter_without_harm() -> None:
    done = subprocess.run(
        [sys.executable, "-X", "faulthandler", "-c", textwrap.dedent(SURVIVOR)],
        capture_output=True,
        text=True,
        timeout=50,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )

    assert (done.returncode, done.stdout.strip(), done.stderr.strip()) == (0, "the end", "")
