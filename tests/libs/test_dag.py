"""Graphs written down with ``bind`` and run with ``execute``: every result is that of the same calls made one by one."""

from __future__ import annotations

import asyncio
import copy
import pickle
from typing import Any, NamedTuple

import pytest

import raybook as ray
from raybook.dag import DAGNode, InputNode, MultiOutputNode
from raybook.dag.scan import find_all, substitute

pytestmark = pytest.mark.usefixtures("four_cpus")


@pytest.fixture(scope="module")
def calls() -> dict[str, Any]:
    @ray.remote
    def double(x):
        return x * 2

    @ray.remote
    def add(x, y=0):
        return x + y

    @ray.remote
    class Counter:
        def __init__(self, value=0):
            self.value = value

        def inc(self, by=1):
            self.value += by
            return self.value

        def get(self):
            return self.value

        @ray.method(num_returns=2)
        def both(self, x):
            return x, self.value

    return {"double": double, "add": add, "Counter": Counter}


def test_a_graph_gives_what_the_calls_one_by_one_give(calls) -> None:
    double, add = calls["double"], calls["add"]
    with InputNode() as inp:
        left, right = double.bind(inp), add.bind(inp, 1)
        dag = add.bind(left, right)

    assert [ray.get(dag.execute(x)) for x in (2, 3)] == [7, 10]
    eager = add.remote(double.remote(2), add.remote(2, 1))
    assert ray.get(eager) == 7


def test_a_node_shared_by_two_parents_runs_once(calls) -> None:
    counter = calls["Counter"].remote()
    shared = counter.inc.bind()
    dag = calls["add"].bind(shared, shared)
    top = calls["add"].bind(dag, shared)

    assert ray.get(top.execute()) == 3
    assert ray.get(counter.get.remote()) == 1


def test_nodes_inside_containers_arrive_as_references_of_the_call(calls) -> None:
    class Box:
        def __init__(self, content):
            self.content = content

    @ray.remote
    def total(nested, box, **more):
        refs = [*nested["list"], *nested["pair"], box.content, more["last"]["deep"]]
        return sum(ray.get(refs))

    one, two = calls["add"].bind(1), calls["add"].bind(2)
    box = Box(one)
    dag = total.bind({"list": [one, two], "pair": (two,)}, box, last={"deep": one})

    assert ray.get(dag.execute()) == 1 + 2 + 2 + 1 + 1
    assert box.content is one


def test_parts_of_the_input_are_reached_by_index_attribute_and_key(calls) -> None:
    class Pair:
        a, b = 3, 4

    with InputNode() as inp:
        by_place = calls["add"].bind(inp[0], inp.more)
    with InputNode() as inp:
        by_attribute = calls["add"].bind(inp.a, inp.b)
    with InputNode() as inp:
        by_key = calls["add"].bind(inp["a"], inp["b"])

    assert ray.get(by_place.execute(1, more=2)) == 3
    assert ray.get(by_attribute.execute(Pair())) == 7
    assert ray.get(by_key.execute({"a": 5, "b": 6})) == 11
    with pytest.raises(AssertionError, match="first-level key"):
        inp[(1, 2)]


def test_actors_of_a_graph_are_made_anew_by_each_execute_and_called_in_the_order_of_binding(calls) -> None:
    first, second = calls["Counter"].bind(10), calls["Counter"].bind(10)
    first.inc.bind(2)
    first.inc.bind(4)
    second.inc.bind(6)
    dag = calls["add"].bind(first.get.bind(), second.get.bind())

    assert [ray.get(dag.execute()) for _ in range(2)] == [32, 32]


def test_an_actor_of_a_graph_can_be_an_argument(calls) -> None:
    @ray.remote
    def read(counter):
        return ray.get(counter.inc.remote(5))

    assert ray.get(read.bind(calls["Counter"].bind(10)).execute()) == 15


def test_several_outputs_come_as_a_list_of_references_and_several_values_as_nodes(calls) -> None:
    counter = calls["Counter"].remote(7)
    with InputNode() as inp:
        echo, value = counter.both.bind(inp)
        dag = MultiOutputNode([echo, calls["double"].bind(value), value])

    refs = dag.execute(1)
    assert [type(ref) for ref in refs] == [ray.ObjectRef] * 3
    assert ray.get(refs) == [1, 14, 7]
    with pytest.raises(ValueError, match="Invalid input type"):
        MultiOutputNode(echo)


def test_nodes_show_what_they_were_made_of(calls) -> None:
    inner = calls["double"].bind(1)
    node = calls["add"].options(name="sum", num_cpus=2).bind(inner, y=[inner])
    method = calls["Counter"].options(max_restarts=1).bind(3).get.options(name="read").bind()

    assert node.get_args() == (inner,) and node.get_kwargs() == {"y": [inner]}
    assert node.get_options() == {"name": "sum", "num_cpus": 2}
    assert method.get_options() == {"name": "read"}
    assert method.get_other_args_to_resolve()["parent_class_node"].get_options() == {"max_restarts": 1}
    assert node._get_toplevel_child_nodes() == [inner] == node._get_all_child_nodes()
    assert str(node).startswith(f"(FunctionNode, {node.get_stable_uuid()})(")
    assert str(node).count("args=[\n") == 2 and str(node).count(f"(FunctionNode, {inner.get_stable_uuid()})") == 2


def test_options_given_before_bind_are_those_of_the_call(calls) -> None:
    @ray.remote
    def resources():
        return ray.get_runtime_context().get_assigned_resources()["CPU"], ray.get_runtime_context().get_task_name()

    assert ray.get(resources.options(num_cpus=2, name="wide").bind().execute()) == (2, "wide")


def test_wrong_use_is_refused_where_it_happens(calls) -> None:
    double, Counter = calls["double"], calls["Counter"]
    with pytest.raises(TypeError, match="argument"):
        double.bind(1, 2, 3)
    with pytest.raises(TypeError, match="argument"):
        Counter.bind(1, 2, 3)
    with pytest.raises(TypeError, match="argument"):
        Counter.remote().inc.bind(1, 2, 3)
    with pytest.raises(AttributeError, match="cannot be used again"):
        double.bind(1).bind()
    with pytest.raises(AttributeError, match=r"\.remote\(\) cannot be used"):
        double.bind(1).remote()
    with pytest.raises(AttributeError, match="cannot be used again"):
        Counter.bind().bind()
    with pytest.raises(AttributeError, match="'Counter' has no attribute 'remote'"):
        Counter.bind().remote()
    with pytest.raises(AttributeError, match="cannot be used on ClassMethodNodes"):
        Counter.bind().get.remote()
    with pytest.raises(ValueError, match="cannot be pickled"):
        pickle.dumps(double.bind(1))


def test_inputs_are_bound_inside_with_and_one_to_a_graph(calls) -> None:
    double, add = calls["double"], calls["add"]
    with pytest.raises(ValueError, match="should not take any args or kwargs"):
        InputNode(0)
    with pytest.raises(AssertionError, match="only used in context manager"):
        double.bind(InputNode()).execute(1)
    with InputNode() as one, InputNode() as two:
        dag = add.bind(one, two)
    with pytest.raises(AssertionError, match="only have one unique InputNode"):
        dag.execute(1)
    with InputNode() as inp, pytest.raises(ValueError, match="InputNode handles user dynamic input"):
        calls["Counter"].bind(inp)


def test_what_every_node_returned_is_kept_when_asked_for_and_every_node_is_met_once(calls) -> None:
    one = calls["double"].bind(1)
    dag = calls["add"].bind(one, one)
    ref = dag.execute(_ray_cache_refs=True)

    kept = asyncio.run(dag.get_object_refs_from_last_execute())
    assert kept[dag.get_stable_uuid()] == ref and ray.get(kept[one.get_stable_uuid()]) == 2
    dag.clear_cache()
    assert asyncio.run(dag.get_object_refs_from_last_execute()) == {}
    met: list[Any] = []
    one.traverse_and_apply(met.append)
    assert met == [one, dag]


def test_a_chain_of_two_thousand_nodes_is_no_recursion() -> None:
    class Plus(DAGNode):
        def _run(self, values, args, kwargs):
            return self._resolved_args(values)[0][0] + 1

    node: Any = 0
    for _ in range(2000):
        node = Plus((node,), {}, {})

    assert node.execute() == 2000


def test_the_scan_leaves_alone_what_holds_no_node_and_keeps_the_kind_of_what_does() -> None:
    class Point(NamedTuple):
        x: Any
        y: Any

    class Tree:
        def __init__(self, *branches):
            self.branches = list(branches)

    node = DAGNode((), {}, {})
    loop: list[Any] = [node]
    loop.append(loop)
    value = {"plain": [1, (2, "three")], "point": Point(node, 1), "tree": Tree(Tree(node)), "set": {4}}

    replaced = substitute(value, DAGNode, lambda found: "here")

    assert find_all([value, loop], DAGNode) == [node]
    assert replaced["plain"] is value["plain"] and replaced["set"] is value["set"]
    assert replaced["point"] == Point("here", 1) and type(replaced["point"]) is Point
    assert replaced["tree"].branches[0].branches == ["here"]
    assert value["tree"].branches[0].branches == [node]
    assert copy.copy(value) == value
