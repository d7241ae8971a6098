"""Compiled graphs on real actors: results and errors of the plain calls, limits, ends."""

from __future__ import annotations

import asyncio
import copy
import gc
import os
import pickle
import signal
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

import raybook as ray
from raybook.cluster_utils import Cluster
from raybook.dag import CompiledDAG, DAGContext, InputNode, MultiOutputNode
from raybook.dag.references import CompiledDAGRef
from raybook.exceptions import (
    ActorDiedError,
    RayCgraphCapacityExceeded,
    RayChannelError,
    RayChannelTimeoutError,
    StaleReferenceError,
)


@pytest.fixture(scope="module", autouse=True)
def cluster() -> Iterator[None]:
    ray.init(num_cpus=4)
    yield
    ray.shutdown()


@pytest.fixture
def Actor() -> Any:
    @ray.remote(num_cpus=0)
    class Actor:
        def __init__(self, value=0):
            self.value = value
            self.kept = []

        def inc(self, x):
            self.value += x
            return self.value

        def add(self, x, y):
            return x + y

        def echo(self, x):
            return x

        def keep(self, x):
            self.kept.append(x)
            return len(self.kept)

        def total(self):
            return [float(each.sum()) for each in self.kept]

        def fail(self, x):
            if x % 2:
                raise ValueError(f"{x} is odd")
            return x

        def sleep(self, seconds):
            time.sleep(seconds)
            return seconds

        def die(self, x):
            os.kill(os.getpid(), signal.SIGKILL)

        def unpicklable(self, x):
            import threading

            return threading.Lock()

        @ray.method(num_returns=2)
        def both(self, x):
            return x, x + 1

        @ray.method(num_returns=2)
        def three(self, x):
            return x, x, x

        def pid(self):
            return os.getpid()

        def who(self, x):
            context = ray.get_runtime_context()
            return context.get_actor_id(), os.getpid()

    return Actor


@pytest.fixture
def compiled() -> Iterator[Any]:
    """Compiles graphs, and tears them down."""
    made: list[CompiledDAG] = []

    def compile_graph(dag: Any, **options: Any) -> CompiledDAG:
        made.append(dag.experimental_compile(**options))
        return made[-1]

    yield compile_graph
    for graph in made:
        graph.teardown()


def test_a_compiled_graph_gives_what_the_plain_calls_give(Actor, compiled) -> None:
    a, b = Actor.remote(), Actor.remote(100)
    with InputNode() as inp:
        dag = a.add.bind(b.inc.bind(a.inc.bind(inp)), 0.5)
    plain = ray.get(dag.execute(1))
    a, b = Actor.remote(), Actor.remote(100)
    with InputNode() as inp:
        graph = compiled(a.add.bind(b.inc.bind(a.inc.bind(inp)), 0.5))
    assert ray.get(graph.execute(1)) == plain == 101.5
    assert [ray.get(graph.execute(1)) for _ in range(50)][-1] == 100 + sum(range(1, 52)) + 0.5


def test_values_go_to_every_reader_also_in_the_same_actor_and_in_the_driver(Actor, compiled) -> None:
    a, b = Actor.remote(), Actor.remote()
    with InputNode() as inp:
        x = a.echo.bind(inp)
        graph = compiled(MultiOutputNode([x, a.inc.bind(x), b.inc.bind(x), b.inc.bind(x), x]))
    assert ray.get(graph.execute(1)) == [1, 1, 1, 2, 1]
    assert ray.get(graph.execute(2)) == [2, 3, 4, 6, 2]


def test_methods_of_one_actor_run_in_the_order_of_binding(Actor, compiled) -> None:
    a, b = Actor.remote(), Actor.remote()
    with InputNode() as inp:
        left = b.inc.bind(a.inc.bind(inp))
        right = a.inc.bind(b.inc.bind(inp))
        graph = compiled(MultiOutputNode([right, left]))
    # a: 0+1, b: 0+1, b: 1+1, a: 1+2.
    assert ray.get(graph.execute(1)) == [3, 1]


def test_arguments_of_execute_go_to_the_parts_of_the_input(Actor, compiled) -> None:
    a, b = Actor.remote(), Actor.remote()
    with InputNode() as inp:
        graph = compiled(a.add.bind(b.add.bind(inp[0], inp.y), inp[1]))
    assert ray.get(graph.execute("a", "c", y="b")) == "abc"
    with pytest.raises(ValueError, match="must be called with 2 positional args, got 1"):
        graph.execute("a", y="b")
    with pytest.raises(ValueError, match="must be called with kwarg `y`"):
        graph.execute("a", "c")


def test_several_values_of_a_method_are_nodes_of_their_own(Actor, compiled) -> None:
    a, b = Actor.remote(), Actor.remote()
    with InputNode() as inp:
        one, two = a.both.bind(inp)
        graph = compiled(MultiOutputNode([b.echo.bind(two), one]))
    assert ray.get(graph.execute(1)) == [2, 1]
    with InputNode() as inp:
        dag = MultiOutputNode(list(a.three.bind(inp)))
    graph = compiled(dag)
    for run in (lambda: ray.get(dag.execute(1)), lambda: ray.get(graph.execute(1))):
        with pytest.raises(ValueError, match="returned 3 objects, but num_returns=2"):
            run()


def test_arrays_arrive_without_a_copy_and_stay_valid_while_they_are_kept(Actor, compiled) -> None:
    a = Actor.remote()
    with InputNode() as inp:
        graph = compiled(MultiOutputNode([a.echo.bind(inp), a.keep.bind(inp)]))
    kept = []
    for number in range(5):
        array, count = ray.get(graph.execute(np.full(50_000, float(number))))
        assert not array.flags.writeable and not array.flags.owndata and count == number + 1
        kept.append(array[::1000])
    assert [each.sum() for each in kept] == [50.0 * number for number in range(5)]
    assert ray.get(a.total.remote()) == [50_000.0 * number for number in range(5)]


def test_messages_of_every_size_pass_and_memory_does_not_grow(Actor, compiled) -> None:
    a = Actor.remote()
    with InputNode() as inp:
        graph = compiled(a.echo.bind(inp), _buffer_size_bytes=1000)
    for size in (0, 1, 8000, 8192, 8193, 100_000, 3_000_000) * 4:
        assert len(ray.get(graph.execute(b"x" * size))) == size
    # Pages that were used once: what the largest message took, not what all took together.
    assert graph._link.memory.heap.memory_bytes() < 20_000_000


def test_results_may_be_asked_for_in_any_order_and_once(Actor, compiled) -> None:
    a = Actor.remote()
    with InputNode() as inp:
        graph = compiled(a.inc.bind(inp))
    first, second, third = (graph.execute(1) for _ in range(3))
    assert str(third) == f"CompiledDAGRef({graph.get_id()}, execution_index=2, channel_index=None)"
    assert ray.get(third) == 3
    assert ray.get([first, second]) == [1, 2]
    with pytest.raises(ValueError, match="can only be called once"):
        ray.get(first)


def test_references_of_graphs_and_of_tasks_are_not_got_together_nor_passed_on(Actor, compiled) -> None:
    a = Actor.remote()
    with InputNode() as inp:
        graph = compiled(a.inc.bind(inp))
    ref, plain = graph.execute(1), a.pid.remote()
    for mixed in ([ref, plain], [plain, ref]):
        with pytest.raises(ValueError, match="if there is any CompiledDAGRef within it"):
            ray.get(mixed)
    with pytest.raises(TypeError, match="cannot be used as Ray task/actor argument"):
        a.echo.remote(ref)
    with pytest.raises(TypeError, match="cannot be pickled"):
        ray.put([ref])
    with pytest.raises(TypeError, match="expected a list of ray.ObjectRef"):
        ray.wait(ref)
    for breaks in (copy.copy, copy.deepcopy, pickle.dumps):
        with pytest.raises(ValueError, match="cannot be"):
            breaks(ref)
    assert ray.get(ref) == 1


def test_an_error_reaches_everybody_who_waits_for_it_and_the_graph_goes_on(Actor, compiled) -> None:
    a, b = Actor.remote(), Actor.remote()
    with InputNode() as inp:
        graph = compiled(MultiOutputNode([b.inc.bind(a.fail.bind(inp)), b.echo.bind(inp)]))
    for _ in range(2):
        failed, other = graph.execute(3)
        with pytest.raises(ValueError, match="3 is odd") as caught:
            ray.get(failed)
        assert "raise ValueError" in str(caught.value) and isinstance(caught.value, ray.exceptions.RayTaskError)
        assert ray.get(other) == 3
    assert ray.get(graph.execute(2)) == [2, 2]


@pytest.mark.slow
def test_an_error_is_raised_before_slower_results_are_there(Actor, compiled) -> None:
    a, b = Actor.remote(), Actor.remote()
    with InputNode() as inp:
        graph = compiled(MultiOutputNode([a.sleep.bind(inp[0]), b.fail.bind(inp[1])]))
    slow, failed = graph.execute(0.5, 1)
    with pytest.raises(ValueError, match="1 is odd"):
        ray.get(slow)
    with pytest.raises(ValueError, match="1 is odd"):
        ray.get(failed)
    with pytest.raises(RayChannelTimeoutError):
        ray.get(graph.execute(0, 2), timeout=0.05)


def test_a_result_that_cannot_be_pickled_is_an_error_of_its_execution(Actor, compiled) -> None:
    a = Actor.remote()
    with InputNode() as inp:
        graph = compiled(MultiOutputNode([a.unpicklable.bind(inp), a.echo.bind(inp)]))
    bad, good = graph.execute(1)
    with pytest.raises(TypeError, match="return value of `Actor.unpicklable`"):
        ray.get(bad)
    with pytest.raises(TypeError, match="input of a compiled graph"):
        graph.execute(x for x in ())
    assert ray.get(good) == 1


def test_more_executions_than_allowed_are_refused_until_results_are_read(Actor, compiled) -> None:
    a = Actor.remote()
    with InputNode() as inp:
        graph = compiled(a.inc.bind(inp), _max_inflight_executions=3)
    for _ in range(2):
        refs = [graph.execute(1) for _ in range(3)]
        with pytest.raises(RayCgraphCapacityExceeded, match="can't have more than 3 in-flight executions"):
            graph.execute(1)
        last = ray.get(refs)[-1]
    assert last == ray.get(graph.execute(0)) == 6


def test_references_that_nobody_holds_do_not_count(Actor, compiled) -> None:
    a, b = Actor.remote(), Actor.remote()
    with InputNode() as inp:
        graph = compiled(MultiOutputNode([a.inc.bind(inp), b.inc.bind(inp)]), _max_inflight_executions=2)
    for _ in range(10):
        graph.execute(1)
    for _ in range(5):
        left, _right = graph.execute(1)
        ray.get(left)
        del _right
    assert ray.get(graph.execute(1)) == [16, 16]
    assert graph._results.buffered == 0


def test_more_buffered_results_than_allowed_are_refused(Actor, compiled) -> None:
    a = Actor.remote()
    with InputNode() as inp:
        graph = compiled(a.inc.bind(inp), _max_buffered_results=1)
    first, second = graph.execute(1), graph.execute(1)
    with pytest.raises(RayCgraphCapacityExceeded, match="can't have more than 1 buffered results"):
        ray.get(second)
    assert ray.get(first) == 1


@pytest.mark.slow
def test_a_get_that_takes_too_long_ends_and_the_execution_goes_on(Actor, compiled) -> None:
    a = Actor.remote()
    with InputNode() as inp:
        graph = compiled(a.sleep.bind(inp))
    slow, after = graph.execute(2.0), graph.execute(0)
    start = time.monotonic()
    with pytest.raises(RayChannelTimeoutError, match="within 0.1 s"):
        ray.get(slow, timeout=0.1)
    assert time.monotonic() - start < 1.9
    with pytest.raises(TimeoutError):
        ray.get(graph.execute(0), timeout=0)
    assert ray.get(after, timeout=-1) == 0


@pytest.mark.slow
def test_a_graph_stays_in_step_however_often_its_caller_is_interrupted(Actor, compiled) -> None:
    a, b = Actor.remote(), Actor.remote()
    with InputNode() as inp:
        graph = compiled(MultiOutputNode([a.echo.bind(inp[0]), b.echo.bind(inp[1])]), _max_inflight_executions=3)

    class Interrupt(BaseException):
        pass

    armed = [False]

    def interrupt(number, frame):
        if armed[0]:
            armed[0] = False
            raise Interrupt

    def step(number):
        return ray.get(graph.execute(number, -number))

    interrupts = 0
    before = signal.signal(signal.SIGALRM, interrupt)
    try:
        for number in range(400):
            try:
                armed[0] = True
                signal.setitimer(signal.ITIMER_REAL, 0.00001 * (number % 40 + 1))
                assert step(number) == [number, -number]
                armed[0] = False
            except Interrupt:
                interrupts += 1
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert interrupts > 20
    for number in range(20):
        assert step(number) == [number, -number]


def test_a_reference_whose_end_was_interrupted_gives_its_room_back(Actor, compiled, monkeypatch) -> None:
    monkeypatch.setattr(CompiledDAGRef, "__del__", lambda self: None)
    a = Actor.remote()
    with InputNode() as inp:
        graph = compiled(a.echo.bind(inp), _max_inflight_executions=2)
    for number in range(6):
        graph.execute(number)
    kept = graph.execute(6)
    assert ray.get(kept) == 6


def test_an_actor_takes_plain_calls_and_other_graphs_meanwhile(Actor, compiled) -> None:
    a = Actor.remote()
    with InputNode() as inp:
        first = compiled(a.inc.bind(inp))
    with InputNode() as inp:
        second = compiled(a.inc.bind(inp))
    assert [ray.get(first.execute(1)), ray.get(second.execute(1)), ray.get(a.inc.remote(1))] == [1, 2, 3]
    first.teardown()
    assert ray.get(second.execute(1)) == 4
    actor_id, pid = ray.get(a.who.remote(0))
    with InputNode() as inp:
        graph = compiled(a.who.bind(inp))
    assert ray.get(graph.execute(0)) == (actor_id, pid)


def test_coroutine_methods_run_on_the_loop_of_their_actor(compiled) -> None:
    @ray.remote(num_cpus=0)
    class Loop:
        async def which(self, x):
            await asyncio.sleep(0)
            return id(asyncio.get_running_loop())

    actor = Loop.remote()
    with InputNode() as inp:
        graph = compiled(actor.which.bind(inp))
    assert ray.get(graph.execute(0)) == ray.get(actor.which.remote(0))


def test_the_death_of_an_actor_is_an_error_at_get_and_afterwards(Actor) -> None:
    a, b = Actor.remote(), Actor.remote()
    with InputNode() as inp:
        graph = b.echo.bind(a.die.bind(inp)).experimental_compile()
    ref = graph.execute(1)
    with pytest.raises(ActorDiedError):
        ray.get(ref)
    with pytest.raises(ActorDiedError):
        graph.execute(1)
    graph.teardown()
    with InputNode() as inp:
        graph = b.echo.bind(inp).experimental_compile()
    assert ray.get(graph.execute(1)) == 1
    graph.teardown()


@pytest.mark.parametrize("way", ["leave", "leave_python"])
def test_a_method_that_ends_its_actor_ends_it_as_in_a_plain_call(way) -> None:
    @ray.remote(num_cpus=0)
    class Leaver:
        def leave(self, x):
            ray.actor.exit_actor()

        def leave_python(self, x):
            raise SystemExit(x)

    actor = Leaver.remote()
    with InputNode() as inp:
        graph = getattr(actor, way).bind(inp).experimental_compile()
    with pytest.raises(ActorDiedError):
        ray.get(graph.execute(1))
    graph.teardown()


def test_graphs_are_compiled_inside_tasks_and_used_by_several_threads(Actor, compiled) -> None:
    @ray.remote(num_cpus=0)
    def inside(x):
        actor = Actor.remote()
        with InputNode() as inp:
            graph = actor.echo.bind(inp).experimental_compile()
        return ray.get(graph.execute(x))

    assert ray.get(inside.remote(7)) == 7
    a = Actor.remote()
    with InputNode() as inp:
        graph = compiled(a.echo.bind(inp))

    def work(thread):
        return all(ray.get(graph.execute((thread, number))) == (thread, number) for number in range(50))

    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(work, range(4)))


def test_a_graph_of_an_ended_session_is_an_error_and_no_hang(Actor) -> None:
    a = Actor.remote()
    with InputNode() as inp:
        graph = a.echo.bind(inp).experimental_compile()
    ray.shutdown()
    with pytest.raises(StaleReferenceError):
        ray.get(graph.execute(1))
    graph.teardown()
    ray.init(num_cpus=4)


def test_teardown_frees_memory_and_actors_and_ends_what_waits(Actor) -> None:
    a = Actor.remote()
    with InputNode() as inp:
        graph = a.echo.bind(inp).experimental_compile()
    ref = graph.execute(np.zeros(1 << 20))
    mapped = "memfd:raybook-graph"
    pid = ray.get(a.pid.remote())
    with open(f"/proc/{pid}/maps") as maps:
        assert mapped in maps.read()
    graph.teardown()
    graph.teardown()
    assert graph.is_teardown
    with pytest.raises(RayChannelError, match="torn down"):
        ray.get(ref)
    with pytest.raises(RayChannelError, match="torn down"):
        graph.execute(1)
    assert ray.get(a.echo.remote(1)) == 1
    ray.get(a.echo.remote(0))
    gc.collect()
    with open(f"/proc/{pid}/maps") as maps:
        assert mapped not in maps.read()
    del graph, ref
    gc.collect()
    with open("/proc/self/maps") as maps:
        assert mapped not in maps.read()


def test_teardown_kills_the_actors_when_asked(Actor) -> None:
    a = Actor.remote()
    with InputNode() as inp:
        graph = a.echo.bind(inp).experimental_compile()
    graph.teardown(kill_actors=True)
    with pytest.raises(ActorDiedError, match=r"ray\.kill"):
        ray.get(a.pid.remote())


def test_a_graph_that_nobody_holds_lets_its_actors_go(Actor, eventually) -> None:
    a = Actor.remote()
    with InputNode() as inp:
        graph = a.echo.bind(inp).experimental_compile()
    assert ray.get(graph.execute(1)) == 1
    pid = ray.get(a.pid.remote())
    del graph
    gc.collect()

    def is_gone() -> bool:
        with open(f"/proc/{pid}/maps") as maps:
            return "raybook-graph" not in maps.read()

    eventually(is_gone)


def test_coroutines_execute_and_await(Actor, compiled) -> None:
    a, b = Actor.remote(), Actor.remote()
    with InputNode() as inp:
        graph = compiled(MultiOutputNode([a.fail.bind(inp), b.inc.bind(inp)]), enable_asyncio=True)

    async def one(x):
        futures = await graph.execute_async(x)
        return await asyncio.gather(*futures)

    async def main():
        first, second = await graph.execute_async(0), await graph.execute_async(2)
        late = [await future for future in second]
        early = [await future for future in first]
        with pytest.raises(ValueError, match="can only be awaited upon once"):
            await first[0]
        with pytest.raises(ValueError, match="1 is odd"):
            await one(1)
        return early, late, await asyncio.gather(*[one(2) for _ in range(4)])

    early, late, rest = asyncio.run(main())
    assert early == [0, 0] and late == [2, 2] and [right for _left, right in rest] == [5, 7, 9, 11]
    assert asyncio.run(one(2)) == [2, 13]
    with pytest.raises(ValueError, match="Use execute_async"):
        graph.execute(1)


def test_a_coroutine_that_waits_hears_of_a_death(Actor) -> None:
    a = Actor.remote()
    with InputNode() as inp:
        graph = a.die.bind(inp).experimental_compile(enable_asyncio=True)

    async def main():
        await (await graph.execute_async(1))

    with pytest.raises(ActorDiedError):
        asyncio.run(main())
    graph.teardown()


@pytest.mark.parametrize(
    "refused", ["function", "class", "container", "keyword", "constant", "leaf", "unused", "mixed"]
)
def test_a_graph_that_cannot_be_compiled_says_why(Actor, refused) -> None:
    a, b = Actor.remote(), Actor.remote()
    error, words = {
        "function": (NotImplementedError, "only support actor method nodes"),
        "class": (ValueError, "already created with Actor.remote"),
        "container": (ValueError, "not allowed to be placed inside any type of container"),
        "keyword": (ValueError, "does not support binding to other DAG nodes as kwargs"),
        "constant": (ValueError, "require each task to take a ray.dag.InputNode"),
        "leaf": (ValueError, "There are 1 leaf nodes in the DAG"),
        "unused": (ValueError, "attributes 0, 1, but 1 is unused"),
        "mixed": (ValueError, "must either use InputNode.. directly"),
    }[refused]
    with InputNode() as inp:
        if refused == "function":
            dag = ray.remote(lambda x: x).bind(inp)
        elif refused == "class":
            dag = Actor.bind().echo.bind(inp)
        elif refused == "container":
            dag = a.echo.bind([b.echo.bind(inp)])
        elif refused == "keyword":
            dag = a.add.bind(inp, y=b.echo.bind(inp))
        elif refused == "constant":
            dag = MultiOutputNode([a.echo.bind(inp), b.echo.bind(1)])
        elif refused == "leaf":
            b.echo.bind(inp)
            dag = a.echo.bind(inp)
        elif refused == "unused":
            first, _second = inp[0], inp[1]
            dag = a.echo.bind(first)
        else:
            dag = a.add.bind(inp, b.echo.bind(inp[0]))
    with pytest.raises(error, match=words):
        dag.experimental_compile()


def test_a_graph_is_compiled_once(Actor, compiled) -> None:
    a, b = Actor.remote(), Actor.remote()
    with InputNode() as inp:
        branch = b.echo.bind(inp)
        dag = MultiOutputNode([a.echo.bind(inp), branch])
    compiled(dag)
    with pytest.raises(ValueError, match="It is not allowed to call `experimental_compile` on the same DAG"):
        dag.experimental_compile()
    with pytest.raises(ValueError, match="The DAG was compiled more than once"):
        branch.experimental_compile()
    with pytest.raises(ValueError, match="No InputNode found in the DAG"):
        a.inc.bind(1).experimental_compile()


def test_an_actor_that_cannot_join_is_an_error_of_compiling(Actor) -> None:
    @ray.remote(num_cpus=0)
    class Broken:
        def __init__(self):
            raise RuntimeError("no actor today")

        def echo(self, x):
            return x

    with InputNode() as inp:
        dag = Actor.remote().echo.bind(Broken.remote().echo.bind(inp))
    with pytest.raises(ActorDiedError, match="no actor today"):
        dag.experimental_compile()


def test_settings_come_from_the_context_and_wrong_ones_are_refused(Actor, compiled, monkeypatch) -> None:
    monkeypatch.setattr(DAGContext.get_current(), "max_inflight_executions", 1)
    a = Actor.remote()
    with InputNode() as inp:
        dag = a.echo.bind(inp)
    for wrong in (0, -1, 1.5, True):
        with pytest.raises(ValueError, match="_max_inflight_executions"):
            dag.experimental_compile(_max_inflight_executions=wrong)
    graph = compiled(dag)
    ref = graph.execute(1)
    with pytest.raises(RayCgraphCapacityExceeded):
        graph.execute(1)
    assert ray.get(ref) == 1
    with pytest.raises(ValueError, match="must be less than or equal"):
        DAGContext(get_timeout=1, read_iteration_timeout=2)


def test_tensor_transports_that_need_a_device_are_refused_without_one(Actor, compiled) -> None:
    a = Actor.remote()
    with InputNode() as inp:
        graph = compiled(a.echo.bind(inp.with_tensor_transport()).with_tensor_transport("auto"))
    assert ray.get(graph.execute(1)) == 1
    with InputNode() as inp:
        dag = a.echo.bind(a.echo.bind(inp).with_tensor_transport("nccl"))
    with pytest.raises(ValueError, match="'nccl'.* cannot be had"):
        dag.experimental_compile()
    with pytest.raises(ValueError, match="Invalid transport type"):
        dag.with_tensor_transport("pigeon")
    with pytest.raises(ValueError, match="Invalid device"):
        dag.with_tensor_transport(device="abacus")


def test_a_graph_is_drawn_as_letters(Actor, compiled) -> None:
    a = Actor.remote()
    with InputNode() as inp:
        graph = compiled(MultiOutputNode([a.echo.bind(inp), a.inc.bind(inp)]))
    text = graph.visualize(format="ascii")
    assert "Nodes Information:" in text and "Edges Information:" in text and "Graph Built:" in text
    assert "0 ---> 1" in text and ":inc" in text


@pytest.mark.slow
def test_actors_of_several_nodes_of_one_machine_share_a_graph(Actor) -> None:
    ray.shutdown()
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
    try:
        cluster.add_node(num_cpus=1, resources={"other": 1})
        ray.init(address=cluster.address)
        here, there = Actor.remote(), Actor.options(resources={"other": 1}).remote()
        with InputNode() as inp:
            graph = there.echo.bind(here.echo.bind(inp)).experimental_compile()
        assert ray.get(graph.execute(np.ones(10_000))).sum() == 10_000
        graph.teardown()
    finally:
        ray.shutdown()
        cluster.shutdown()
        ray.init(num_cpus=4)
