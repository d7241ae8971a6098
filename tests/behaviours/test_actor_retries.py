"""Retries and restarts of actors, counted: how often a call runs, and how often ``__init__``."""

import os
import sys

import pytest

from raybook.exceptions import ActorDiedError, ActorUnavailableError

PATIENCE_S = 30


@pytest.fixture
def make_flaky(ray, tmp_path):
    """Makes (an actor whose calls fail some times, how often it was called, how often it was made)."""

    def bump(path):
        with open(path, "ab") as file:
            file.write(b".")
        return os.path.getsize(path)

    def size(path):
        return os.path.getsize(path) if os.path.exists(path) else 0

    calls, lives = str(tmp_path / "calls"), str(tmp_path / "lives")

    def make(**options):
        @ray.remote
        class Flaky:
            def __init__(self):
                bump(lives)

            def raises(self, times, kind=ValueError):
                if bump(calls) <= times:
                    raise kind("again")
                return "done"

            def dies(self, times, how="exit"):
                if bump(calls) <= times:
                    if how == "exit":
                        os._exit(1)
                    if how == "sys.exit":
                        sys.exit(1)
                    ray.actor.exit_actor()
                return "done"

            @ray.method(max_task_retries=2, retry_exceptions=[ValueError])
            def raises_listed(self, times, kind=ValueError):
                return self.raises(times, kind)

            @ray.method(max_task_retries=5, retry_exceptions=True)
            def raises_any(self, times, kind=ValueError):
                return self.raises(times, kind)

            @ray.method(max_task_retries=2)
            def dies_retried(self, times):
                return self.dies(times)

        return Flaky.options(**options).remote(), lambda: size(calls), lambda: size(lives)

    return make


@pytest.mark.parametrize(
    ("actor", "method", "call", "args", "done", "calls"),
    [
        ({}, "raises", {}, (2,), False, 1),
        ({"max_task_retries": 3}, "raises", {}, (2,), False, 1),
        ({"max_task_retries": 3}, "raises", {"retry_exceptions": True}, (2,), True, 3),
        ({"max_task_retries": 3}, "raises", {"retry_exceptions": [ValueError]}, (2,), True, 3),
        ({"max_task_retries": 3}, "raises", {"retry_exceptions": [TypeError]}, (2,), False, 1),
        ({}, "raises", {"max_task_retries": 2, "retry_exceptions": True}, (2,), True, 3),
        ({}, "raises", {"max_task_retries": -1, "retry_exceptions": True}, (6,), True, 7),
        ({}, "raises", {"max_task_retries": 2, "retry_exceptions": [ValueError]}, (1, UnicodeError), True, 2),
        ({}, "raises_listed", {}, (2,), True, 3),
        ({}, "raises_listed", {}, (3,), False, 3),
        ({}, "raises_listed", {}, (2, TypeError), False, 1),
        ({}, "raises_listed", {"max_task_retries": 1}, (2,), False, 2),
        ({}, "raises_listed", {"max_task_retries": 0}, (2,), False, 1),
        ({}, "raises_any", {}, (5,), True, 6),
        ({}, "raises_any", {}, (6,), False, 6),
        ({}, "raises_any", {"retry_exceptions": False}, (3,), False, 1),
    ],
)
def test_a_call_that_raises_runs_as_often_as_its_options_say(ray, make_flaky, actor, method, call, args, done, calls):
    flaky, called, made = make_flaky(**actor)
    bound = getattr(flaky, method)
    ref = (bound.options(**call) if call else bound).remote(*args)
    if done:
        assert ray.get(ref, timeout=PATIENCE_S) == "done"
    else:
        with pytest.raises(args[1] if len(args) > 1 else ValueError):
            ray.get(ref, timeout=PATIENCE_S)
    assert (called(), made()) == (calls, 1)


@pytest.mark.parametrize(
    ("actor", "method", "call", "args", "result", "calls", "lives"),
    [
        ({}, "dies", {}, (1,), ActorDiedError, 1, 1),
        ({"max_restarts": 1, "max_task_retries": 1}, "dies", {}, (1,), "done", 2, 2),
        ({"max_restarts": 2, "max_task_retries": 1}, "dies", {}, (2,), ActorUnavailableError, 2, None),
        ({"max_restarts": 3, "max_task_retries": 3}, "dies", {}, (3,), "done", 4, 4),
        ({"max_restarts": -1, "max_task_retries": -1}, "dies", {}, (3,), "done", 4, 4),
        ({"max_restarts": 2, "max_task_retries": 2}, "dies", {}, (1, "sys.exit"), "done", 2, 2),
        ({"max_restarts": 2, "max_task_retries": 2}, "dies", {}, (1, "exit_actor"), ActorDiedError, 1, 1),
        ({"max_restarts": 1}, "dies_retried", {}, (1,), "done", 2, 2),
        ({}, "dies_retried", {}, (1,), ActorDiedError, 1, 1),
        ({"max_restarts": -1}, "dies", {"max_task_retries": 2}, (2,), "done", 3, 3),
    ],
)
def test_a_call_that_ends_its_actor_runs_as_often_as_restarts_and_retries_say(
    ray, make_flaky, actor, method, call, args, result, calls, lives
):
    flaky, called, made = make_flaky(**actor)
    bound = getattr(flaky, method)
    ref = (bound.options(**call) if call else bound).remote(*args)
    if isinstance(result, str):
        assert ray.get(ref, timeout=PATIENCE_S) == result
    else:
        with pytest.raises(result):
            ray.get(ref, timeout=PATIENCE_S)
    assert called() == calls
    if lives is not None:
        assert made() == lives


def test_a_restarted_actor_begins_anew_and_knows_it(ray, make_flaky):
    @ray.remote(max_restarts=1, max_task_retries=-1)
    class Counter:
        def __init__(self):
            self.n = 0

        def up(self):
            self.n += 1
            return self.n

        def lived_before(self):
            return ray.get_runtime_context().was_current_actor_reconstructed

    counter = Counter.remote()
    assert ray.get([counter.up.remote(), counter.up.remote(), counter.lived_before.remote()]) == [1, 2, False]
    ray.kill(counter, no_restart=False)
    # The kill goes through the cluster: a call may still find the old life.
    while ray.get(counter.up.remote(), timeout=PATIENCE_S) != 1:
        pass
    assert ray.get(counter.lived_before.remote(), timeout=PATIENCE_S)
