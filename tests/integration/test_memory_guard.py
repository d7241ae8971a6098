"""The memory guard on a real cluster, whose processes may use so little together that a test can reach it."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator

import numpy as np
import pytest

import raybook as ray
from raybook.api.memory import memory_summary
from raybook.io.memory import private_bytes
from raybook.util.state import get_task

Eventually = Callable[[Callable[[], object]], None]

pytestmark = [pytest.mark.raybook_only, pytest.mark.slow]

MIB = 1 << 20
ROOM_BYTES = 320 * MIB
"""What tasks may hold together before memory is short. Half of it and a little is a *large* task."""
LARGE_MIB = 220


@pytest.fixture(scope="module")
def tight_cluster() -> Iterator[None]:
    """Two CPUs. The limit leaves ``ROOM_BYTES`` to tasks, whatever this very process holds."""
    ray.shutdown()
    others = private_bytes(os.getpid()) + 150 * MIB
    patch = pytest.MonkeyPatch()
    # Far apart, so that what a task takes between two looks is not beyond the critical mark at once (0.8).
    patch.setenv("RAYBOOK_MEMORY_USAGE_THRESHOLD", "0.6")
    patch.setenv("RAYBOOK_MEMORY_LIMIT_BYTES", str(int((others + ROOM_BYTES) / 0.6)))
    patch.setenv("RAY_memory_monitor_refresh_ms", "40")
    patch.setenv("RAYBOOK_TASK_OOM_RETRY_DELAY_MS", "100")
    ray.init(num_cpus=2, object_store_memory=400 * MIB)
    yield
    ray.shutdown()
    patch.undo()


def hold(mib: int, gate: object = None) -> int:
    """Take memory, then wait. Returns the pid."""
    import os
    import time

    held = bytearray(mib << 20)
    held[::4096] = b"x" * (len(held) // 4096)
    if gate is not None:
        ray.get(gate.wait.remote())
    else:
        time.sleep(60 if mib > 300 else 0.5)
    return os.getpid()


@pytest.fixture
def gate(tight_cluster: None) -> Iterator[object]:
    @ray.remote(num_cpus=0)
    class Gate:
        def __init__(self) -> None:
            import asyncio

            self.opened = asyncio.Event()

        def open(self) -> None:
            self.opened.set()

        async def wait(self) -> None:
            await self.opened.wait()

    made = Gate.remote()
    yield made
    ray.kill(made)


def test_task_that_fills_the_node_alone_fails_with_an_error_that_says_everything(tight_cluster: None) -> None:
    ref = ray.remote(hold).remote(800)

    with pytest.raises(ray.exceptions.OutOfMemoryError) as caught:
        ray.get(ref, timeout=30)

    text = str(caught.value)
    for said in ("`hold`", "pid", "MiB of its own", "memory ran short", "largest users", "a driver", "Nothing else"):
        assert said in text, (said, text)
    assert ray.get(ray.remote(lambda: 1).remote(), timeout=30) == 1


def attempts_of(ref: object) -> int:
    """How often its task was tried again so far."""
    return get_task(ref).attempt_number


def test_newer_of_two_large_tasks_gives_way_and_runs_later(gate: object, eventually: Eventually) -> None:
    """Both fit one after the other; ``max_retries`` is not spent on that."""
    task = ray.remote(max_retries=1)(hold)
    older = task.remote(LARGE_MIB, gate)
    newer = task.remote(LARGE_MIB, gate)

    eventually(lambda: attempts_of(newer))
    ray.get(gate.open.remote())

    assert len(ray.get([older, newer], timeout=30)) == 2
    assert attempts_of(older) == 0


def test_task_that_must_not_run_twice_is_spared_for_one_that_may(gate: object, eventually: Eventually) -> None:
    """The newer one goes first among equals, but these are not."""
    retriable = ray.remote(hold).remote(LARGE_MIB, gate)
    once = ray.remote(max_retries=0)(hold).remote(LARGE_MIB, gate)

    eventually(lambda: attempts_of(retriable))
    ray.get(gate.open.remote())

    assert ray.get([once, retriable], timeout=30)
    assert attempts_of(once) == 0


@pytest.mark.parametrize("restarts", [0, 1])
def test_call_of_an_actor_that_is_ended_raises_out_of_memory(tight_cluster: None, restarts: int) -> None:
    @ray.remote(max_restarts=restarts)
    class Hog:
        def hold(self, mib: int) -> None:
            import time

            self.held = bytearray(mib << 20)
            self.held[::4096] = b"x" * (len(self.held) // 4096)
            time.sleep(60)

        def pid(self) -> int:
            import os

            return os.getpid()

    hog = Hog.remote()

    with pytest.raises(ray.exceptions.OutOfMemoryError, match="memory ran short"):
        ray.get(hog.hold.remote(800), timeout=30)

    if restarts:
        assert ray.get(hog.__ray_ready__.options(max_task_retries=-1).remote(), timeout=30)
        assert ray.get(hog.pid.remote(), timeout=30) > 0
    else:
        with pytest.raises(ray.exceptions.ActorDiedError):
            ray.get(hog.pid.remote(), timeout=30)


def test_objects_go_to_disk_before_anybody_is_ended(gate: object, eventually: Eventually) -> None:
    """The store is far from its own limit; the node is not."""
    refs = [ray.put(np.full(40 * MIB, index, np.uint8)) for index in range(4)]
    assert {row["kind"] for row in memory_summary() if row["size_bytes"] > MIB} == {"IN_ARENA"}

    task = ray.remote(max_retries=0)(hold).remote(LARGE_MIB, gate)
    eventually(lambda: any(row["kind"] == "ON_DISK" for row in memory_summary()))
    ray.get(gate.open.remote())

    assert ray.get(task, timeout=30) > 0
    assert [int(ray.get(ref)[7]) for ref in refs] == [0, 1, 2, 3]


def test_driver_that_fills_the_node_is_told_and_never_ended(
    tight_cluster: None, capfd: pytest.CaptureFixture[str], eventually: Eventually
) -> None:
    said: list[str] = []
    held = bytearray(600 * MIB)
    held[::4096] = b"x" * (len(held) // 4096)

    def was_told() -> bool:
        said.extend(capfd.readouterr())
        return "Memory runs short" in "".join(said)

    eventually(was_told)

    assert "drivers never are" in "".join(said)
    del held
    assert ray.get(ray.remote(lambda: 2).remote(), timeout=30) == 2
