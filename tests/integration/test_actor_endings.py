"""How actors end in good order, as Ray 2.60 has it: last words, exits of their own, and what calls are told then."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

import pytest

import raybook as ray

pytestmark = [pytest.mark.usefixtures("cluster"), pytest.mark.timeout(30)]


def wait_for(path: Path) -> str:
    end = time.monotonic() + 10
    while not path.exists():
        assert time.monotonic() < end, f"{path.name} never appeared"
        time.sleep(0.01)
    return path.read_text()


def make_class() -> object:
    @ray.remote
    class LastWords:
        def __init__(self, folder: str) -> None:
            import atexit

            self.folder = folder
            atexit.register(lambda: open(f"{folder}/atexit", "w").close())

        def ready(self) -> int:
            return os.getpid()

        def leave(self) -> None:
            ray.actor.exit_actor()

        def sys_exit(self, code: int) -> None:
            sys.exit(code)

        def __ray_shutdown__(self) -> None:
            with open(f"{self.folder}/shutdown", "w") as file:
                file.write("called")

        def __del__(self) -> None:
            open(f"{self.folder}/del", "w").close()

    return LastWords


def leave_by_handle(actor):
    del actor


def leave_by_terminate(actor):
    actor.__ray_terminate__.remote()


def leave_by_exit_actor(actor):
    with pytest.raises(ray.exceptions.ActorDiedError):
        ray.get(actor.leave.remote())


@pytest.mark.parametrize("leave", [leave_by_handle, leave_by_terminate, leave_by_exit_actor])
def test_an_actor_that_ends_in_good_order_runs_its_shutdown_del_and_atexit(leave, tmp_path):
    actors = [make_class().remote(str(tmp_path))]
    ray.get(actors[0].ready.remote())
    leave(actors.pop())
    wait_for(tmp_path / "shutdown")
    wait_for(tmp_path / "del")
    wait_for(tmp_path / "atexit")


def test_a_killed_actor_runs_nothing_more(tmp_path):
    actor = make_class().remote(str(tmp_path))
    pid = ray.get(actor.ready.remote())
    ray.kill(actor)
    end = time.monotonic() + 10
    while os.path.exists(f"/proc/{pid}") and time.monotonic() < end:
        time.sleep(0.01)
    assert list(tmp_path.iterdir()) == []


def test_sys_exit_in_a_method_ends_the_actor(tmp_path):
    actor = make_class().options(max_restarts=-1).remote(str(tmp_path))
    ray.get(actor.ready.remote())
    for call in (actor.sys_exit.remote(0), actor.ready.remote()):
        with pytest.raises(ray.exceptions.ActorDiedError, match=r"sys\.exit"):
            ray.get(call)


def test_sys_exit_with_an_error_is_a_crash_that_restarts(tmp_path):
    actor = make_class().options(max_restarts=1, max_task_retries=1).remote(str(tmp_path))
    before = ray.get(actor.ready.remote())
    with pytest.raises(ray.exceptions.RayActorError):
        ray.get(actor.sys_exit.options(max_task_retries=0).remote(3))
    assert ray.get(actor.ready.remote()) != before


def test_exit_actor_in_a_coroutine_ends_the_actor():
    @ray.remote
    class Async:
        async def leave(self):
            ray.actor.exit_actor()

        async def ready(self):
            return True

    actor = Async.remote()
    assert ray.get(actor.ready.remote())
    for call in (actor.leave.remote(), actor.ready.remote()):
        with pytest.raises(ray.exceptions.ActorDiedError):
            ray.get(call)


def test_exit_actor_is_not_followed_by_a_restart(tmp_path):
    actor = make_class().options(max_restarts=-1, max_task_retries=-1).remote(str(tmp_path))
    ray.get(actor.ready.remote())
    leave_by_exit_actor(actor)
    with pytest.raises(ray.exceptions.ActorDiedError):
        ray.get(actor.ready.remote())


def test_errors_of_an_actor_name_its_id():
    @ray.remote(max_restarts=1)
    class Mortal:
        def ready(self):
            return os.getpid()

        def die(self):
            os._exit(1)

    actor = Mortal.remote()
    ray.get(actor.ready.remote())
    with pytest.raises(ray.exceptions.ActorUnavailableError) as caught:
        ray.get(actor.die.remote())
    assert caught.value.actor_id == actor._actor_id.hex()
    actor = Mortal.options(max_restarts=0).remote()
    with pytest.raises(ray.exceptions.ActorDiedError) as caught:
        ray.get(actor.die.remote())
    assert caught.value.actor_id == actor._actor_id.hex()
