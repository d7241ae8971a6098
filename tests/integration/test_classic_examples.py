"""The classic examples, as people write them for Ray: only the import line is ours."""

from __future__ import annotations

import os
from collections.abc import Callable
from types import ModuleType

import numpy as np
import pytest

import raybook as ray

pytestmark = [pytest.mark.usefixtures("cluster"), pytest.mark.timeout(30)]


def test_square_tasks_give_their_squares_in_order():
    @ray.remote
    def f(x):
        return x * x

    futures = [f.remote(i) for i in range(4)]
    assert ray.get(futures) == [0, 1, 4, 9]


def test_counter_keeps_its_state_between_calls():
    @ray.remote
    class Counter:
        def __init__(self):
            self.n = 0

        def increment(self):
            self.n += 1
            return self.n

    counter = Counter.remote()
    assert ray.get(counter.increment.remote()) == 1
    assert ray.get(counter.increment.remote()) == 2


def test_body_of_a_task_runs_in_another_process():
    @ray.remote
    def where():
        return os.getpid()

    assert ray.get(where.remote()) != os.getpid()


def test_actor_stays_in_one_process_and_two_actors_do_not_share_it():
    @ray.remote
    class Place:
        def pid(self):
            return os.getpid()

    one, other = Place.remote(), Place.remote()
    assert len(set(ray.get([one.pid.remote() for _ in range(5)]))) == 1
    assert ray.get(one.pid.remote()) != ray.get(other.pid.remote())


def test_task_with_cpus_and_a_gpu_sees_exactly_its_gpu():
    @ray.remote(num_cpus=2, num_gpus=1)
    def gpu_task():
        return os.environ["CUDA_VISIBLE_DEVICES"], len(ray.get_gpu_ids())

    assert ray.get(gpu_task.remote()) == ("0", 1)


def test_options_override_the_decorator_for_one_call():
    @ray.remote(num_cpus=1)
    def resources():
        return ray.get_runtime_context().get_assigned_resources()

    assert ray.get(resources.options(num_cpus=2).remote())["CPU"] == 2
    assert ray.get(resources.remote())["CPU"] == 1


def test_options_of_an_actor_give_it_a_name_and_resources():
    @ray.remote
    class Named:
        def resources(self):
            return ray.get_runtime_context().get_assigned_resources()

    actor = Named.options(name="the one with options", num_cpus=2).remote()
    assert ray.get(actor.resources.remote())["CPU"] == 2
    assert ray.get(ray.get_actor("the one with options").resources.remote())["CPU"] == 2


def test_several_returns_come_as_several_refs():
    @ray.remote(num_returns=3)
    def split(text):
        return text.split()

    first, second, third = split.remote("one two three")
    assert ray.get([third, first, second]) == ["three", "one", "two"]


def test_wait_loop_collects_results_in_the_order_of_finishing(make_gate: Callable[[], object]):
    gates = [make_gate() for _ in range(3)]

    @ray.remote
    def work(gate, index):
        ray.get(gate.wait.remote())
        return index

    left = [work.remote(gate, index) for index, gate in enumerate(gates)]
    finished = []
    for index in (1, 2, 0):
        gates[index].open.remote()
        done, left = ray.wait(left)
        finished += ray.get(done)
    assert finished == [1, 2, 0]
    assert left == []


def test_wait_loop_works_off_more_tasks_than_there_are_cpus():
    @ray.remote
    def work(index):
        return index

    left = [work.remote(index) for index in range(40)]
    results = []
    while left:
        done, left = ray.wait(left, num_returns=min(3, len(left)))
        results += ray.get(done)
    assert sorted(results) == list(range(40))


def test_refs_as_arguments_make_a_graph_without_a_get_between():
    @ray.remote
    def add(a, b):
        return a + b

    refs = [add.remote(i, i) for i in range(8)]
    while len(refs) > 1:
        refs = [add.remote(*pair) for pair in zip(refs[::2], refs[1::2], strict=True)]
    assert ray.get(refs[0]) == 2 * sum(range(8))


def test_put_object_is_shared_by_many_tasks():
    @ray.remote
    def part_sum(array, begin, end):
        return int(array[begin:end].sum())

    array = np.arange(200_000)
    ref = ray.put(array)
    parts = ray.get([part_sum.remote(ref, i * 50_000, (i + 1) * 50_000) for i in range(4)])
    assert sum(parts) == int(array.sum())
    assert np.array_equal(ray.get(ref), array)


@pytest.mark.parametrize(
    "value",
    [None, 7, "text", b"bytes", [1, [2, {"three": 3}]], {"key": (1, 2)}, {1, 2}, 3.5 + 2j],
    ids=lambda value: type(value).__name__,
)
def test_put_and_get_give_back_an_equal_value(value: object):
    assert ray.get(ray.put(value)) == value


def test_parameter_server_converges_to_the_least_squares_solution():
    @ray.remote
    class ParameterServer:
        def __init__(self, size):
            self.weights = np.zeros(size)

        def apply(self, *gradients):
            self.weights -= 0.1 * np.mean(gradients, axis=0)
            return self.weights

        def get_weights(self):
            return self.weights

    @ray.remote
    class DataWorker:
        def __init__(self, seed, truth):
            rng = np.random.default_rng(seed)
            self.inputs = rng.normal(size=(64, len(truth)))
            self.targets = self.inputs @ truth

        def gradient(self, weights):
            return 2 * self.inputs.T @ (self.inputs @ weights - self.targets) / len(self.inputs)

    truth = np.array([1.0, -2.0, 0.5])
    server = ParameterServer.remote(len(truth))
    workers = [DataWorker.remote(seed, truth) for seed in range(3)]
    weights = server.get_weights.remote()
    for _ in range(60):
        weights = server.apply.remote(*[worker.gradient.remote(weights) for worker in workers])
    assert np.allclose(ray.get(weights), truth, atol=1e-3)


def test_actor_handle_works_inside_tasks():
    @ray.remote
    class Tally:
        def __init__(self):
            self.seen = []

        def add(self, item):
            self.seen.append(item)
            return len(self.seen)

        def all(self):
            return sorted(self.seen)

    @ray.remote
    def report(tally, item):
        return ray.get(tally.add.remote(item))

    tally = Tally.remote()
    assert sorted(ray.get([report.remote(tally, i) for i in range(6)])) == [1, 2, 3, 4, 5, 6]
    assert ray.get(tally.all.remote()) == [0, 1, 2, 3, 4, 5]


def test_actor_creates_and_uses_other_actors():
    @ray.remote
    class Leaf:
        def value(self):
            return 3

    @ray.remote
    class Root:
        def __init__(self, count):
            self.leaves = [Leaf.remote() for _ in range(count)]

        def total(self):
            return sum(ray.get([leaf.value.remote() for leaf in self.leaves]))

    assert ray.get(Root.remote(2).total.remote()) == 6


def test_named_actor_is_found_from_the_driver_and_from_a_task():
    @ray.remote
    class Config:
        def __init__(self):
            self.values = {}

        def set(self, key, value):
            self.values[key] = value

        def get(self, key):
            return self.values.get(key)

    @ray.remote
    def write(key, value):
        config = ray.get_actor("config")
        ray.get(config.set.remote(key, value))

    config = Config.options(name="config").remote()
    ray.get(write.remote("lr", 0.1))
    assert ray.get(ray.get_actor("config").get.remote("lr")) == 0.1
    assert ray.get(config.get.remote("lr")) == 0.1


def test_pi_is_estimated_with_a_progress_actor():
    @ray.remote
    class Progress:
        def __init__(self):
            self.done = {}

        def report(self, task_id, samples):
            self.done[task_id] = samples

        def total(self):
            return sum(self.done.values())

    @ray.remote
    def sample(count, task_id, progress):
        rng = np.random.default_rng(task_id)
        inside = int((np.hypot(*rng.uniform(-1, 1, size=(2, count))) <= 1).sum())
        ray.get(progress.report.remote(task_id, count))
        return inside

    progress = Progress.remote()
    inside = sum(ray.get([sample.remote(50_000, task_id, progress) for task_id in range(4)]))
    assert ray.get(progress.total.remote()) == 200_000
    assert abs(4 * inside / 200_000 - np.pi) < 0.05


def test_words_are_counted_by_map_and_reduce():
    @ray.remote(num_returns=2)
    def map_words(text):
        shards = ({}, {})
        for word in text.split():
            shard = shards[len(word) % 2]
            shard[word] = shard.get(word, 0) + 1
        return shards

    @ray.remote
    def reduce_counts(*counts):
        total = {}
        for count in counts:
            for word, number in count.items():
                total[word] = total.get(word, 0) + number
        return total

    mapped = [map_words.remote(text) for text in ("a bb a", "bb a ccc", "ccc dd")]
    even, odd = ray.get([reduce_counts.remote(*shard) for shard in zip(*mapped, strict=True)])
    assert {**even, **odd} == {"a": 3, "bb": 2, "ccc": 2, "dd": 1}


def test_async_actor_answers_other_calls_while_one_waits():
    @ray.remote
    class Mailbox:
        def __init__(self):
            import asyncio

            self.letters = asyncio.Queue()

        async def post(self, letter):
            await self.letters.put(letter)

        async def take(self):
            return await self.letters.get()

    mailbox = Mailbox.remote()
    waiting = mailbox.take.remote()
    ray.get(mailbox.post.remote("hello"))
    assert ray.get(waiting) == "hello"


def test_method_decorator_sets_the_number_of_returns():
    @ray.remote
    class Pair:
        @ray.method(num_returns=2)
        def both(self):
            return 1, 2

    pair = Pair.remote()
    one, two = pair.both.remote()
    assert ray.get([one, two]) == [1, 2]


def test_cluster_tells_its_resources_and_nodes(cluster: ModuleType):
    assert ray.cluster_resources()["CPU"] == 4
    assert ray.cluster_resources()["GPU"] == 1
    nodes = ray.nodes()
    assert len(nodes) == 1
    assert nodes[0]["Alive"] is True
    assert nodes[0]["Resources"]["CPU"] == 4


def test_work_goes_on_in_the_same_cluster_after_a_task_has_failed():
    @ray.remote
    def fail():
        raise ValueError("no")

    @ray.remote
    def work():
        return "fine"

    with pytest.raises(ValueError, match="no"):
        ray.get(fail.remote())
    assert ray.get(work.remote()) == "fine"


def test_nested_tasks_five_deep_finish_on_one_cpu(own_cluster: Callable[..., object]):
    own_cluster(num_cpus=1)

    @ray.remote
    def depth(left):
        return 0 if left == 0 else 1 + ray.get(depth.remote(left - 1))

    assert ray.get(depth.remote(5)) == 5


def test_init_works_as_a_context_and_ends_the_cluster(no_cluster: ModuleType):
    with ray.init(num_cpus=1):
        assert ray.is_initialized()
    assert not ray.is_initialized()


def test_first_use_starts_a_cluster_by_itself(no_cluster: ModuleType):
    @ray.remote
    def f():
        return 1

    assert ray.get(f.remote()) == 1
    assert ray.is_initialized()
