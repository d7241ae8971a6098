"""Batches, model caches and local testing mode, in this process."""

from __future__ import annotations

import asyncio

import cloudpickle
import pytest

from raybook import serve
from raybook.serve.context import RequestContext, request_context
from raybook.serve.exceptions import RayServeException


def run(coroutine):
    return asyncio.run(coroutine)


def test_calls_are_gathered_into_full_batches():
    sizes = []

    @serve.batch(max_batch_size=4, batch_wait_timeout_s=1000)
    async def double(values):
        sizes.append(len(values))
        return [2 * value for value in values]

    async def ask():
        return await asyncio.gather(*(double(i) for i in range(8)))

    assert run(ask()) == [0, 2, 4, 6, 8, 10, 12, 14]
    assert sizes == [4, 4]


def test_a_batch_that_is_not_full_goes_after_its_wait():
    @serve.batch(max_batch_size=100, batch_wait_timeout_s=0.01)
    async def count(values):
        return [len(values)] * len(values)

    async def ask():
        return await asyncio.gather(*(count(i) for i in range(3)))

    assert run(ask()) == [3, 3, 3]


def test_n_calls_at_once_are_n_over_size_batches():
    calls = []

    class Model:
        @serve.batch(max_batch_size=10, batch_wait_timeout_s=0.02)
        async def predict(self, values, *, scale=1):
            calls.append(len(values))
            return [value * by for value, by in zip(values, scale, strict=True)]

    async def ask():
        model = Model()
        return await asyncio.gather(*(model.predict(i, scale=3) for i in range(95)))

    assert run(ask()) == [3 * i for i in range(95)]
    assert len(calls) == 10


def test_a_batched_method_travels_with_its_class():
    class Model:
        @serve.batch(max_batch_size=3, batch_wait_timeout_s=1000)
        async def predict(self, values):
            return [len(values)] * len(values)

        @serve.multiplexed
        async def load(self, model_id):
            return model_id

    async def ask(model):
        return await asyncio.gather(*(model.predict(i) for i in range(3))), await model.load("m")

    assert run(ask(Model())) == ([3, 3, 3], "m")
    assert run(ask(cloudpickle.loads(cloudpickle.dumps(Model))())) == ([3, 3, 3], "m")


def test_an_error_reaches_every_call_of_its_batch_and_no_other():
    @serve.batch(max_batch_size=2, batch_wait_timeout_s=1000)
    async def picky(values):
        if "bad" in values:
            raise ValueError("bad")
        return values

    async def ask():
        calls = [picky(value) for value in ("a", "bad", "c", "d")]
        return await asyncio.gather(*calls, return_exceptions=True)

    first, second, third, fourth = run(ask())
    assert isinstance(first, ValueError) and isinstance(second, ValueError)
    assert (third, fourth) == ("c", "d")


def test_results_of_another_length_are_an_error_that_says_so():
    @serve.batch(max_batch_size=2, batch_wait_timeout_s=0)
    async def short(values):
        return []

    with pytest.raises(RayServeException, match="doesn't preserve batch size"):
        run(short(1))


def test_a_generator_of_batches_is_a_stream_for_each_call_and_may_end_some_early():
    @serve.batch(max_batch_size=2, batch_wait_timeout_s=1000)
    async def count_to(limits):
        for step in range(max(limits)):
            yield [step if step < limit else StopIteration for limit in limits]

    async def items(limit):
        return [item async for item in count_to(limit)]

    async def ask():
        return await asyncio.gather(items(1), items(3))

    assert run(ask()) == [[0], [0, 1, 2]]


def test_sizes_may_be_counted_otherwise_and_changed():
    batches = []

    @serve.batch(max_batch_size=10, batch_wait_timeout_s=1000, batch_size_fn=lambda texts: sum(map(len, texts)))
    async def read(texts):
        batches.append(list(texts))
        return texts

    async def ask():
        read.set_max_batch_size(6)
        await asyncio.gather(*(read(text) for text in ("aaa", "bbb", "cccccc")))

    run(ask())
    assert batches == [["aaa", "bbb"], ["cccccc"]]
    assert read._get_max_batch_size() == 6


def test_calls_for_different_models_do_not_share_a_batch():
    seen = []

    @serve.batch(max_batch_size=4, batch_wait_timeout_s=0.01)
    async def predict(values):
        seen.append((serve.get_multiplexed_model_id(), list(values)))
        return values

    async def call(model_id, value):
        request_context.set(RequestContext(multiplexed_model_id=model_id))
        return await predict(value)

    async def ask():
        await asyncio.gather(call("m", 1), call("m", 2), call("n", 3))

    run(ask())
    assert seen == [("m", [1, 2]), ("n", [3])]


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"max_batch_size": 0}, ValueError),
        ({"max_batch_size": 1.5}, TypeError),
        ({"max_batch_size": "2"}, TypeError),
        ({"batch_wait_timeout_s": -1}, ValueError),
        ({"batch_wait_timeout_s": "a"}, TypeError),
        ({"max_concurrent_batches": 0}, TypeError),
    ],
)
def test_wrong_options_of_batches_are_refused(options, error):
    with pytest.raises(error, match="must be"):
        serve.batch(**options)


def test_only_async_functions_are_batched_or_multiplexed():
    with pytest.raises(TypeError, match="must be 'async def'"):
        serve.batch(lambda values: values)
    with pytest.raises(TypeError, match="async"):
        serve.multiplexed(lambda model_id: model_id)
    with pytest.raises(ValueError, match="must be positive"):
        serve.multiplexed(max_num_models_per_replica=0)


def test_models_are_loaded_once_and_the_oldest_goes():
    loads, unloads = [], []

    class Model:
        def __init__(self, name):
            self.name = name

        async def __del__(self):
            unloads.append(self.name)

    class Host:
        @serve.multiplexed(max_num_models_per_replica=2)
        async def load(self, model_id: str):
            loads.append(model_id)
            await asyncio.sleep(0)
            return Model(model_id)

    async def ask():
        host = Host()
        await asyncio.gather(*(host.load("a") for _ in range(5)))
        await host.load("b")
        await host.load("a")
        await host.load("c")
        await host.load("a")
        with pytest.raises(TypeError, match="more than one"):
            await host.load("a", "b")
        with pytest.raises(TypeError, match="no arguments"):
            await host.load()

    run(ask())
    assert loads == ["a", "b", "c"]
    assert unloads[0] == "b"


def test_local_testing_mode_needs_no_cluster():
    import raybook

    @serve.deployment
    class Child:
        def __init__(self, base):
            self.base = base

        def reconfigure(self, config):
            self.base += config["more"]

        def __call__(self, x):
            return self.base + x

        async def items(self, n):
            for item in range(n):
                yield item

    @serve.deployment
    class Parent:
        def __init__(self, child):
            self.child = child

        async def __call__(self, x):
            return await self.child.remote(self.child.remote(x))

        async def stream(self, n):
            async for item in self.child.options(stream=True).items.remote(n):
                yield item * 2

        def fails(self):
            raise KeyError("here")

    child = Child.options(user_config={"more": 5}).bind(10)
    handle = serve.run(Parent.bind(child), _local_testing_mode=True)
    assert handle.remote(1).result() == 31
    assert list(handle.options(stream=True).stream.remote(3)) == [0, 2, 4]
    with pytest.raises(KeyError, match="here"):
        handle.fails.remote().result()
    with pytest.raises(RayServeException, match="Available methods"):
        handle.nothing.remote().result()
    assert not raybook.is_initialized()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"num_replicas": 0}, "num_replicas is expected to larger than 0"),
        (
            {"num_replicas": 2, "autoscaling_config": {"max_replicas": 3}},
            "Manually setting num_replicas is not allowed",
        ),
        ({"max_ongoing_requests": None}, "must be non-null"),
        ({"max_ongoing_requests": 0}, "greater than 0"),
        ({"version": "1"}, "has been removed"),
        ({"user_config": {1j}}, "not JSON-serializable"),
        ({"ray_actor_options": {"name": "x"}}, "Specifying 'name' in ray_actor_options is not allowed"),
        (
            {"autoscaling_config": {"min_replicas": 3, "max_replicas": 2}},
            "must be greater than or equal to min_replicas",
        ),
        ({"max_replicas_per_node": 1, "placement_group_bundles": [{"CPU": 1}]}, "not allowed when"),
        ({"placement_group_strategy": "SPREAD"}, "placement_group_bundles"),
        ({"health_check_period_s": 0}, "greater than 0"),
        ({"rolling_update_percentage": 1.5}, "less than or equal to 1"),
    ],
)
def test_options_that_are_wrong_are_refused_where_they_are_written(options, words):
    with pytest.raises(ValueError, match=words):
        serve.deployment(**options)


def test_options_make_a_copy_and_applications_cannot_be_called():
    @serve.deployment(num_replicas=2, user_config={"a": 1})
    class One: ...

    other = One.options(name="two", num_replicas="auto", max_ongoing_requests=7)
    assert (One.name, One.num_replicas, One.max_ongoing_requests) == ("One", 2, 5)
    assert (other.name, other.max_ongoing_requests, other.user_config) == ("two", 7, {"a": 1})
    assert other._deployment_config.autoscaling_config.max_replicas == 100
    assert One.ray_actor_options == {"num_cpus": 1}
    application = One.bind()
    assert isinstance(application, serve.Application)
    assert not hasattr(application, "remote")
    with pytest.raises(RuntimeError, match="cannot be constructed directly"):
        One()
    with pytest.raises(TypeError, match="expects an `Application`"):
        serve.run(One)
    with pytest.raises(ValueError, match="'#'"):
        serve.deployment(name="a#b")(lambda: None)
    with pytest.raises(ValueError, match="must be used with a class"):
        serve.ingress(lambda scope, receive, send: None)(3)
