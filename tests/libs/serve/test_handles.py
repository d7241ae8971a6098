"""Deployments through handles, on a real cluster."""

from __future__ import annotations

import asyncio
import pickle

import pytest

import raybook
from raybook import serve
from raybook.exceptions import RayTaskError
from raybook.serve.exceptions import BackPressureError, RayServeException, RequestCancelledError
from raybook.serve.handle import DeploymentHandle, DeploymentResponse, DeploymentResponseGenerator

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("apps")]


def test_a_function_answers():
    @serve.deployment
    def double(value: int) -> int:
        return value * 2

    handle = serve.run(double.bind(), route_prefix=None)
    assert handle.remote(4).result() == 8
    assert serve.get_app_handle("default").remote(5).result(timeout_s=60) == 10


def test_methods_of_all_kinds_answer_and_unknown_ones_list_those_there_are():
    @serve.deployment
    class Kinds:
        def __init__(self, base: int) -> None:
            self.base = base

        def __call__(self) -> str:
            return "call"

        def plain(self, x: int, *, y: int = 0) -> int:
            return self.base + x + y

        async def coroutine(self, x: int) -> int:
            return self.base * x

        def items(self, n: int):
            yield from range(n)

        async def async_items(self, n: int):
            for item in range(n):
                yield item * 10

        def fails(self) -> None:
            raise KeyError("lost")

    handle = serve.run(Kinds.bind(10), route_prefix=None)
    assert handle.remote().result() == "call"
    assert handle.plain.remote(1, y=5).result() == 16
    assert handle.options(method_name="coroutine").remote(3).result() == 30
    stream = handle.options(stream=True)
    items = stream.items.remote(3)
    assert isinstance(items, DeploymentResponseGenerator)
    assert list(items) == [0, 1, 2]
    assert list(stream.async_items.remote(2)) == [0, 10]
    response = handle.fails.remote()
    assert isinstance(response, DeploymentResponse)
    for _ in range(2):
        with pytest.raises(KeyError, match="lost"):
            response.result()
    with pytest.raises(RayServeException, match=r"'nothing'.*Available methods: \['__call__'"):
        handle.nothing.remote().result()
    with pytest.raises(TypeError, match="stream=True"):
        handle.items.remote(3).result()
    with pytest.raises(TypeError, match="did not return a generator"):
        next(stream.plain.remote(1))
    with pytest.raises(TypeError, match="cannot be awaited"):
        items.__await__()


def test_deployments_are_composed_and_a_shared_child_is_one():
    @serve.deployment
    class Child:
        def __init__(self) -> None:
            self.calls = 0

        def __call__(self, x: int) -> int:
            self.calls += 1
            return x + 1

        def count(self) -> int:
            return self.calls

    @serve.deployment
    class Parent:
        def __init__(self, one: DeploymentHandle, others: dict) -> None:
            self.one, self.others = one, others

        async def __call__(self, x: int) -> int:
            first = self.one.remote(x)
            return await self.others["two"][0].remote(first)

        async def count(self) -> int:
            return await self.one.count.remote()

    child = Child.bind()
    handle = serve.run(Parent.bind(child, {"two": [child]}), route_prefix=None)
    assert handle.remote(1).result() == 3
    assert handle.count.remote().result() == 2
    assert set(serve.status().applications["default"].deployments) == {"Child", "Parent"}
    assert serve.get_deployment_handle("Child", "default").remote(4).result() == 5


def test_a_response_may_be_an_argument_many_times_and_its_error_arrives():
    @serve.deployment
    class Chain:
        async def add(self, x: int, y: int = 1) -> int:
            return x + y

        async def fail(self) -> None:
            raise ValueError("upstream")

    handle = serve.run(Chain.bind(), route_prefix=None)
    one = handle.add.remote(0)
    assert handle.add.remote(one, y=one).result() == 2
    assert handle.add.remote(handle.add.remote(handle.add.remote(one))).result() == 4
    assert raybook.get(one._to_object_ref_sync()) == 1
    with pytest.raises(ValueError, match="upstream"):
        handle.add.remote(handle.fail.remote()).result()
    with pytest.raises(RayServeException, match="not serializable"):
        pickle.dumps(one)


def test_a_result_that_takes_too_long_is_a_timeout_and_comes_later(make_gate):
    gate = make_gate()

    @serve.deployment
    async def waits() -> str:
        await gate.wait.remote()
        return "done"

    handle = serve.run(waits.bind(), route_prefix=None)
    response = handle.remote()
    with pytest.raises(TimeoutError):
        response.result(timeout_s=0.05)
    raybook.get(gate.open.remote())
    assert response.result(timeout_s=60) == "done"


def test_cancelling_ends_what_runs_and_what_waits(make_gate):
    begun, seen = make_gate(), make_gate()

    @serve.deployment(max_ongoing_requests=1)
    class Slow:
        async def __call__(self) -> None:
            try:
                await begun.open.remote()
                await asyncio.sleep(600)
            except asyncio.CancelledError:
                await seen.open.remote()
                raise

    handle = serve.run(Slow.bind(), route_prefix=None)
    running = handle.remote()
    raybook.get(begun.wait.remote(), timeout=60)
    waiting = handle.remote()
    waiting.cancel()
    running.cancel()
    assert running.cancelled()
    with pytest.raises(RequestCancelledError):
        waiting.result(timeout_s=60)
    with pytest.raises(RequestCancelledError):
        running.result(timeout_s=60)
    raybook.get(seen.wait.remote(), timeout=60)


def test_a_replica_runs_no_more_than_its_limit_and_a_full_queue_refuses(make_gate, eventually):
    gate, two_inside = make_gate(), make_gate()

    @serve.deployment(max_ongoing_requests=2, max_queued_requests=1)
    class Counted:
        def __init__(self) -> None:
            self.now = self.most = 0

        async def __call__(self) -> int:
            self.now += 1
            self.most = max(self.most, self.now)
            if self.now == 2:
                await two_inside.open.remote()
            await gate.wait.remote()
            self.now -= 1
            return self.most

    handle = serve.run(Counted.bind(), route_prefix=None)
    first = handle.remote()
    first._to_object_ref_sync()
    responses = [first, *(handle.remote() for _ in range(2))]
    with pytest.raises(BackPressureError, match="max_queued_requests=1"):
        handle.remote().result()
    raybook.get(two_inside.wait.remote(), timeout=60)
    raybook.get(gate.open.remote())
    assert max(response.result(timeout_s=60) for response in responses) == 2


def test_blocking_methods_run_side_by_side(make_gate):
    gate = make_gate()

    @serve.deployment(max_ongoing_requests=3)
    class Blocks:
        def __init__(self) -> None:
            self.inside = 0

        def __call__(self) -> None:
            self.inside += 1
            raybook.get(gate.wait.remote())

        async def count(self) -> int:
            return self.inside

    handle = serve.run(Blocks.bind(), route_prefix=None)
    responses = [handle.remote() for _ in range(2)]
    while handle.count.remote().result(timeout_s=60) < 2:
        pass
    raybook.get(gate.open.remote())
    for response in responses:
        response.result(timeout_s=60)


def test_replicas_know_who_they_are():
    @serve.deployment(num_replicas=2)
    class Who:
        def __init__(self) -> None:
            self.at_birth = serve.get_replica_context().deployment

        async def __call__(self) -> tuple:
            context = serve.get_replica_context()
            is_self = context.servable_object is self
            return (
                self.at_birth,
                context.app_name,
                context.replica_tag,
                context.rank.rank,
                context.world_size,
                is_self,
            )

    handle = serve.run(Who.bind(), name="who", route_prefix=None)
    found = {handle.remote().result() for _ in range(40)}
    assert {(row[0], row[1], row[4], row[5]) for row in found} == {("Who", "who", 2, True)}
    assert {row[3] for row in found} == {0, 1}
    with pytest.raises(RayServeException, match="may only be called from within"):
        serve.get_replica_context()


def test_handles_in_tasks_and_actors_work():
    @serve.deployment
    def triple(x: int) -> int:
        return 3 * x

    handle = serve.run(triple.bind(), route_prefix=None)

    @raybook.remote
    def ask(given: DeploymentHandle, x: int) -> int:
        return given.remote(x).result()

    assert raybook.get(ask.remote(handle, 5)) == 15
    assert raybook.get(ask.remote(serve.get_app_handle("default"), 6)) == 18


def test_what_does_not_exist_is_said_with_what_does():
    @serve.deployment
    def present() -> None: ...

    serve.run(present.bind(), name="here", route_prefix=None)
    with pytest.raises(RayServeException, match=r"Application 'gone' does not exist.*'here'"):
        serve.get_app_handle("gone")
    with pytest.raises(RayServeException, match=r"'absent'.*does not exist.*'present'"):
        serve.get_deployment_handle("absent", "here")
    with pytest.raises(RayServeException, match="specify an application name"):
        serve.get_deployment_handle("present")


def test_awaiting_in_the_driver_works_as_in_a_deployment():
    @serve.deployment
    class Echo:
        async def __call__(self, x: int) -> int:
            return x

        async def items(self):
            yield 1
            yield 2

    handle = serve.run(Echo.bind(), route_prefix=None)

    async def ask() -> tuple:
        values = await asyncio.gather(*(handle.remote(i) for i in range(5)))
        items = [item async for item in handle.options(stream=True).items.remote()]
        with pytest.raises(RuntimeError, match="should not be called from within an `asyncio` event loop"):
            handle.remote(1).result()
        return values, items

    assert asyncio.run(ask()) == ([0, 1, 2, 3, 4], [1, 2])


def test_an_error_of_a_deployment_is_a_task_error_of_its_type():
    @serve.deployment
    def fails() -> None:
        raise ZeroDivisionError("by hand")

    handle = serve.run(fails.bind(), route_prefix=None)
    with pytest.raises(ZeroDivisionError, match="by hand") as caught:
        handle.remote().result()
    assert isinstance(caught.value, RayTaskError)
