"""The contract: tasks, their arguments, results, errors, generators and surroundings."""

from __future__ import annotations

import os
import threading

import pytest

from tests.contracts.engines.contract import PATIENCE_S, refused


@pytest.fixture
def increment(ray):
    @ray.remote
    def increment(number, by=1):
        return number + by

    return increment


def test_a_task_runs_in_another_process(engine, ray, get):
    @ray.remote
    def pid():
        return os.getpid()

    assert get(pid.remote()) != os.getpid()


def test_results_of_tasks_are_arguments_of_others(engine, get, increment):
    assert get([increment.remote(increment.remote(1)), increment.remote(5, by=increment.remote(1))]) == [3, 7]


def test_references_inside_values_arrive_as_references(engine, ray, get, increment):
    @ray.remote
    def total(refs):
        return sum(ray.get(refs["all"]))

    assert get(total.remote({"all": [increment.remote(1), ray.put(5)]})) == 7


def test_a_task_starts_tasks(engine, ray, get, increment):
    @ray.remote
    def twice(number):
        return ray.get(increment.remote(increment.remote(number)))

    assert get(twice.remote(1)) == 3


def test_a_task_returns_a_reference(engine, ray, get, increment):
    @ray.remote
    def outer():
        return [increment.remote(1)]

    (inner,) = get(outer.remote())
    assert get(inner) == 2


def test_several_returns_are_several_references(engine, ray, get):
    @ray.remote(num_returns=2)
    def both():
        return 1, 2

    first, second = both.remote()
    assert get([first, second]) == [1, 2]


def test_a_task_without_returns_gives_none(engine, ray):
    @ray.remote(num_returns=0)
    def nothing():
        return None

    assert nothing.remote() is None


def test_options_of_one_call_leave_the_function_alone(engine, ray, get, increment):
    assert get(increment.options(name="special", num_cpus=2).remote(1)) == 2
    assert get(increment.remote(2)) == 3


def test_code_that_raises_raises_its_own_class_and_a_task_error(engine, ray, get):
    @ray.remote
    def fails():
        raise KeyError("boom")

    with pytest.raises(KeyError, match="boom") as raised:
        get(fails.remote())
    assert isinstance(raised.value, ray.exceptions.RayTaskError) and isinstance(raised.value.cause, KeyError)


def test_a_failed_argument_fails_the_task_with_its_error(engine, ray, get, increment):
    @ray.remote
    def fails():
        raise ValueError("at first")

    with pytest.raises(ValueError, match="at first"):
        get(increment.remote(fails.remote()))


def test_a_wrong_call_is_a_type_error_where_it_is_made(engine, increment):
    with pytest.raises(TypeError):
        increment.remote(1, 2, 3)


def test_a_task_is_retried_for_the_errors_that_were_named(engine, ray, get, tmp_path):
    @ray.remote(max_retries=2, retry_exceptions=[OSError])
    def second_time(folder):
        path = os.path.join(folder, "been")
        if not os.path.exists(path):
            open(path, "w").close()
            raise OSError("not yet")
        return "done"

    assert get(second_time.remote(str(tmp_path))) == "done"


def test_a_worker_that_dies_is_replaced_or_its_loss_is_told(engine, ray, get, tmp_path):
    @ray.remote
    def dies_once(folder):
        path = os.path.join(folder, "been")
        if not os.path.exists(path):
            open(path, "w").close()
            os._exit(3)
        return "done"

    @ray.remote(max_retries=0)
    def dies():
        os._exit(3)

    assert get(dies_once.remote(str(tmp_path))) == "done"
    with pytest.raises(ray.exceptions.WorkerCrashedError):
        get(dies.remote())


def test_items_of_a_generator_come_in_order_and_end(engine, ray, get):
    @ray.remote
    def count(limit):
        yield from range(limit)

    assert [get(ref) for ref in count.remote(4)] == [0, 1, 2, 3]


def test_a_generator_that_raises_gives_what_it_made_and_then_its_error(engine, ray, get):
    @ray.remote
    def count():
        yield 0
        raise ValueError("after one")

    refs = iter(count.remote())
    assert get(next(refs)) == 0
    with pytest.raises(ValueError, match="after one"):
        get(next(refs))


@refused(ray="dynamic")
def test_a_dynamic_generator_returns_its_references_together(engine, ray, get):
    @ray.remote(num_returns="dynamic")
    def items():
        yield 1
        yield 2

    assert [get(ref) for ref in get(items.remote())] == [1, 2]


def test_wait_splits_in_the_order_that_was_asked(engine, ray):
    @ray.remote
    def never():
        threading.Event().wait()

    stuck, done = never.remote(), ray.put(1)
    assert ray.wait([stuck, done], timeout=PATIENCE_S) == ([done], [stuck])
    ray.cancel(stuck, force=True)


def test_a_time_limit_of_get_is_an_error_of_its_own(engine, ray):
    @ray.remote
    def never():
        threading.Event().wait()

    stuck = never.remote()
    with pytest.raises(ray.exceptions.GetTimeoutError):
        ray.get(stuck, timeout=0.01)
    with pytest.raises(TimeoutError):
        ray.get(stuck, timeout=0.01)
    ray.cancel(stuck, force=True)


@pytest.fixture
def door(ray):
    """An actor with which code tells that it has begun: ``enter`` there, ``wait`` here."""

    @ray.remote(num_cpus=0, max_concurrency=2)
    class Door:
        def __init__(self):
            self.was_entered = threading.Event()

        def enter(self):
            self.was_entered.set()

        def wait(self):
            self.was_entered.wait()

    return Door.remote()


def test_a_task_that_has_not_started_can_be_cancelled(engine, ray, get, door):
    @ray.remote(resources={"disk": 2})
    def holds(door):
        ray.get(door.enter.remote())
        threading.Event().wait()

    @ray.remote(resources={"disk": 1})
    def waits():
        return 1

    holder = holds.remote(door)
    get(door.wait.remote())
    waiting = waits.remote()
    ray.cancel(waiting)
    with pytest.raises(ray.exceptions.TaskCancelledError):
        get(waiting)
    ray.cancel(holder, force=True)


def test_a_running_task_is_ended_by_force(engine, ray, get, door):
    @ray.remote(max_retries=0)
    def runs(door):
        ray.get(door.enter.remote())
        threading.Event().wait()

    running = runs.remote(door)
    get(door.wait.remote())
    ray.cancel(running, force=True)
    with pytest.raises((ray.exceptions.TaskCancelledError, ray.exceptions.WorkerCrashedError)):
        get(running)


def test_the_environment_of_a_task_reaches_it(engine, ray, get):
    @ray.remote(runtime_env={"env_vars": {"RAYBOOK_TEST_WORD": "here"}})
    def word():
        return os.environ.get("RAYBOOK_TEST_WORD")

    assert get(word.remote()) == "here"


def test_what_a_task_asks_for_it_is_told_to_have(engine, ray, get):
    @ray.remote(num_cpus=2, num_gpus=1, resources={"disk": 1})
    def has():
        return ray.get_runtime_context().get_assigned_resources(), len(ray.get_gpu_ids())

    resources, gpus = get(has.remote())
    assert (resources["CPU"], resources["GPU"], resources["disk"], gpus) == (2, 1, 1, 1)


def test_a_task_knows_its_ids_and_its_job(engine, ray, get):
    @ray.remote
    def ids():
        context = ray.get_runtime_context()
        return context.get_task_id(), context.get_job_id(), context.get_node_id(), context.namespace

    task_id, job_id, node_id, namespace = get(ids.remote())
    assert task_id and job_id == ray.get_runtime_context().get_job_id() and namespace == "contract"
    assert node_id in {node["NodeID"] for node in ray.nodes()}


def test_a_function_that_changed_runs_as_it_is_now(engine, ray, get):
    def define(answer):
        @ray.remote
        def ask():
            return answer

        return ask

    assert [get(define(number).remote()) for number in range(3)] == [0, 1, 2]
