"""How actors end, and what their callers are told: texts, classes and attributes as in Ray."""

import gc
import os
import signal
import sys
import time

import pytest

from raybook.exceptions import ActorDiedError, ActorUnavailableError, GetTimeoutError, RayActorError

PATIENCE_S = 20


def make_mortal(ray):
    class Mortal:
        def ok(self):
            return os.getpid()

        def os_exit(self):
            os._exit(1)

        def sys_exit(self):
            sys.exit(3)

        def leave(self):
            ray.actor.exit_actor()

        def leave_quietly(self):
            try:
                ray.actor.exit_actor()
            except Exception:  # noqa: BLE001 - as broad as users write it.
                return "went on"

        def die_of(self, number):
            os.kill(os.getpid(), number)
            time.sleep(PATIENCE_S)

        def sleep(self):
            time.sleep(PATIENCE_S)

    return ray.remote(Mortal)


@pytest.mark.parametrize(
    ("method", "args"),
    [
        ("os_exit", ()),
        ("sys_exit", ()),
        ("leave", ()),
        ("leave_quietly", ()),
        ("die_of", (signal.SIGKILL,)),
        ("die_of", (signal.SIGSEGV,)),
        ("die_of", (signal.SIGTERM,)),
    ],
)
def test_the_call_that_ends_an_actor_and_later_ones_raise_actor_died(ray, method, args):
    actor = make_mortal(ray).remote()
    for call in (lambda: getattr(actor, method).remote(*args), actor.ok.remote):
        with pytest.raises(ActorDiedError, match="The actor died unexpectedly before finishing this task") as caught:
            ray.get(call(), timeout=PATIENCE_S)
        assert caught.value.actor_id == actor._actor_id.hex()


def test_later_calls_say_which_actor_died_and_why(ray):
    actor = make_mortal(ray).options(name="known").remote()
    pid = ray.get(actor.ok.remote())
    with pytest.raises(ActorDiedError):
        ray.get(actor.os_exit.remote(), timeout=PATIENCE_S)
    with pytest.raises(ActorDiedError) as caught:
        ray.get(actor.ok.remote(), timeout=PATIENCE_S)
    text = str(caught.value)
    for part in ("Mortal", actor._actor_id.hex(), f"pid: {pid}", "name: known", "namespace: behaviours"):
        assert part in text
    assert "The actor is dead because its worker process has died" in text
    assert caught.value.error_msg == text and not caught.value.actor_init_failed


def test_an_error_in_init_is_told_to_every_call(ray):
    @ray.remote
    class Broken:
        def __init__(self):
            raise ValueError("no luck")

        def ok(self):
            pass

    actor = Broken.remote()
    for call in (actor.ok.remote, actor.__ray_ready__.remote):
        with pytest.raises(ActorDiedError, match="error raised in its creation task") as caught:
            ray.get(call(), timeout=PATIENCE_S)
        assert "ValueError: no luck" in str(caught.value) and caught.value.actor_init_failed
        assert caught.value.actor_id == actor._actor_id.hex()


def test_an_error_of_an_argument_of_init_is_told_to_every_call(ray):
    @ray.remote
    def bad():
        raise ValueError("no argument")

    @ray.remote
    class Needy:
        def __init__(self, x):
            pass

        def ok(self):
            pass

    with pytest.raises(RayActorError, match="no argument"):
        ray.get(Needy.remote(bad.remote()).ok.remote(), timeout=PATIENCE_S)


def test_a_killed_actor_says_so_to_waiting_and_later_calls(ray):
    actor = make_mortal(ray).remote()
    ray.get(actor.ok.remote())
    waiting = actor.sleep.remote()
    ray.kill(actor)
    for ref in (waiting, actor.ok.remote()):
        with pytest.raises(ActorDiedError, match="The actor is dead because it was killed by `ray.kill`"):
            ray.get(ref, timeout=PATIENCE_S)
    ray.kill(actor)  # Once more does nothing.


def test_an_actor_killed_before_it_ran_says_so(ray):
    actor = make_mortal(ray).options(num_cpus=100).remote()
    ref = actor.ok.remote()
    with pytest.raises(GetTimeoutError):
        ray.get(ref, timeout=0.1)
    ray.kill(actor)
    with pytest.raises(ActorDiedError, match="never ran"):
        ray.get(ref, timeout=PATIENCE_S)


@pytest.mark.parametrize("wrong", [1, None, "actor"])
def test_kill_takes_actors_alone(ray, wrong):
    with pytest.raises(ValueError, match="ray.kill\\(\\) only supported for actors"):
        ray.kill(wrong)


def test_terminate_lets_earlier_calls_finish(ray, till):
    actor = make_mortal(ray).remote()
    first = actor.ok.remote()
    ended = actor.__ray_terminate__.remote()
    after = actor.ok.remote()
    assert ray.get(first, timeout=PATIENCE_S)
    with pytest.raises(ActorDiedError, match="__ray_terminate__"):
        ray.get(ended, timeout=PATIENCE_S)
    with pytest.raises(ActorDiedError):
        ray.get(after, timeout=PATIENCE_S)


def test_exit_actor_outside_of_actors_is_a_type_error(ray):
    with pytest.raises(TypeError):
        ray.actor.exit_actor()

    @ray.remote
    def task():
        ray.actor.exit_actor()

    with pytest.raises(TypeError):
        ray.get(task.remote(), timeout=PATIENCE_S)


def make_witness(ray, path):
    @ray.remote
    class Witness:
        def __init__(self):
            import atexit

            atexit.register(self.note, "atexit;")

        def note(self, word):
            with open(path, "a") as file:
                file.write(word)

        def work(self):
            time.sleep(0.05)
            self.note("work;")

        def pid(self):
            return os.getpid()

    return Witness.remote()


def is_gone(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False


def test_an_actor_without_handles_ends_after_its_calls_and_in_good_order(ray, tmp_path, till):
    path = tmp_path / "told"
    actor = make_witness(ray, str(path))
    pid = ray.get(actor.pid.remote())
    refs = [actor.work.remote() for _ in range(3)]
    del actor
    gc.collect()
    ray.get(refs, timeout=PATIENCE_S)
    till(lambda: is_gone(pid))
    assert path.read_text() == "work;work;work;atexit;"


def test_a_killed_actor_runs_no_exit_handler(ray, tmp_path, till):
    path = tmp_path / "told"
    actor = make_witness(ray, str(path))
    pid = ray.get(actor.pid.remote())
    ray.kill(actor)
    till(lambda: is_gone(pid))
    assert not path.exists()


def test_handles_in_containers_and_objects_keep_an_actor_alive(ray, till):
    actor = make_mortal(ray).remote()
    pid = ray.get(actor.ok.remote())
    kept = {"a": [actor]}
    del actor
    gc.collect()
    assert ray.get(kept["a"][0].ok.remote(), timeout=PATIENCE_S) == pid
    ref = ray.put(kept)
    del kept
    gc.collect()
    assert ray.get(ray.get(ref)["a"][0].ok.remote(), timeout=PATIENCE_S) == pid
    del ref
    gc.collect()
    till(lambda: is_gone(pid))


def test_an_actor_that_holds_a_handle_of_itself_ends_all_the_same(ray, till):
    @ray.remote
    class Selfish:
        def hold(self):
            self.me = ray.get_runtime_context().current_actor
            return os.getpid()

    actor = Selfish.remote()
    pid = ray.get(actor.hold.remote(), timeout=PATIENCE_S)
    del actor
    gc.collect()
    till(lambda: is_gone(pid))


def test_a_handle_that_lives_only_for_one_call_is_enough(ray):
    assert ray.get(make_mortal(ray).remote().ok.remote(), timeout=PATIENCE_S)


def test_children_of_a_dead_owner_die_with_it(ray):
    child_class = make_mortal(ray)

    @ray.remote
    class Parent:
        def make(self):
            self.child = child_class.remote()
            return self.child

    parent = Parent.remote()
    child = ray.get(parent.make.remote(), timeout=PATIENCE_S)
    assert ray.get(child.ok.remote(), timeout=PATIENCE_S)
    ray.kill(parent)

    def is_dead():
        try:
            ray.get(child.ok.remote(), timeout=PATIENCE_S)
        except ActorDiedError as error:
            return "its owner has died" in str(error)
        return False

    end = time.monotonic() + PATIENCE_S
    while not is_dead():
        assert time.monotonic() < end


def test_an_error_names_the_actor_it_happened_in(ray):
    @ray.remote
    class Shown:
        def __repr__(self):
            return "Shown(1)"

        def bad(self):
            raise ValueError("here")

    actor = Shown.remote()
    with pytest.raises(ValueError) as caught:
        ray.get(actor.bad.remote(), timeout=PATIENCE_S)
    text = str(caught.value)
    assert "ray::Shown.bad()" in text and f"actor_id={actor._actor_id.hex()}" in text and "repr=Shown(1)" in text


def test_an_actor_without_a_repr_of_its_own_is_shown_as_python_shows_it(ray):
    @ray.remote
    class Plain:
        def bad(self):
            raise ValueError("here")

    with pytest.raises(ValueError, match="repr=<.*Plain object at"):
        ray.get(Plain.remote().bad.remote(), timeout=PATIENCE_S)


def test_init_that_crashes_is_tried_as_often_as_restarts_allow(ray, tmp_path):
    path = str(tmp_path / "lives")

    @ray.remote(max_restarts=3)
    class Frail:
        def __init__(self):
            with open(path, "a") as file:
                file.write(".")
            if os.path.getsize(path) < 3:
                os._exit(1)

        def ok(self):
            return os.path.getsize(path)

    assert ray.get(Frail.remote().ok.remote(), timeout=PATIENCE_S) == 3


def test_init_that_raises_is_not_tried_again(ray, tmp_path):
    path = str(tmp_path / "lives")

    @ray.remote(max_restarts=3)
    class Frail:
        def __init__(self):
            with open(path, "a") as file:
                file.write(".")
            raise ValueError("no")

        def ok(self):
            pass

    with pytest.raises(ActorDiedError):
        ray.get(Frail.remote().ok.remote(), timeout=PATIENCE_S)
    assert os.path.getsize(path) == 1


def test_without_retries_the_call_that_crashes_a_restarting_actor_is_unavailable(ray):
    actor = make_mortal(ray).options(max_restarts=1).remote()
    pid = ray.get(actor.ok.remote())
    with pytest.raises(ActorUnavailableError, match="may or may not have been executed"):
        ray.get(actor.os_exit.remote(), timeout=PATIENCE_S)
    end = time.monotonic() + PATIENCE_S
    while True:
        try:
            assert ray.get(actor.ok.remote(), timeout=PATIENCE_S) != pid
            break
        except ActorUnavailableError:
            assert time.monotonic() < end
