"""Compile plan: who runs what in a compiled graph, and which values go from whom to whom. Also: which graphs cannot be.

A brain: nodes in, records out. Invariants: each actor runs its steps in the order they were bound, once for each execution;
every channel carries exactly one message for each execution; so the n-th message of every channel belongs to the n-th
execution, and since arguments are bound before who takes them, nobody waits for what comes later.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec

from raybook.dag.class_node import ClassMethodNode, ClassNode
from raybook.dag.collective_node import CollectiveOutputNode
from raybook.dag.function_node import FunctionNode
from raybook.dag.graph_memory import ChannelPlan
from raybook.dag.input_node import InputAttributeNode, InputNode
from raybook.dag.node import DAGNode
from raybook.dag.output_node import MultiOutputNode
from raybook.dag.reductions import Collective
from raybook.dag.scan import find_all
from raybook.dag.transport import why_no_accelerator

DRIVER = 0
PARTICIPANTS_MAX = 250
"""So many file descriptors fit into one message of a Unix socket (SCM_MAX_FD is 253)."""


class Output(msgspec.Struct):
    """One value of a step. index: which of several values, -1 for the only one. channel: -1 when only this actor reads."""

    value: int
    index: int
    channel: int


class Step(msgspec.Struct):
    """One call. sources: for each argument, the value's number, or -1 for the constant at its place."""

    method: str
    sources: list[int]
    constants: list[Any]
    kwargs: dict[str, Any]
    outputs: list[Output]
    num_returns: int
    collective: Collective | None = None


class ActorPlan(msgspec.Struct):
    """What one actor does. reads: value → channel. devices: value → where its tensors should be."""

    participant: int
    class_name: str
    steps: list[Step]
    reads: dict[int, int]
    devices: dict[int, str]
    channels: list[ChannelPlan]
    participants: int


class InputPlan(msgspec.Struct):
    """One channel of the driver's. key: None for the whole input."""

    key: int | str | None
    channel: int


class GraphPlan(msgspec.Struct):
    """Everything. outputs: for each result the channel it comes by. actors: handles, participant 1 and on."""

    channels: list[ChannelPlan]
    actors: list[Any]
    plans: list[ActorPlan]
    inputs: list[InputPlan]
    outputs: list[int]
    output_devices: dict[int, str]
    returns_list: bool
    positional: int
    keywords: list[str]
    nodes: list[DAGNode]


def make_plan(last: DAGNode, slots: int) -> GraphPlan:
    """The plan of the graph that ends at ``last``. slots: messages that may be under way in a channel. ValueError or
    NotImplementedError for a graph that cannot be compiled."""
    nodes = last._component()
    _check_compiled_once(last, nodes)
    for node in nodes:
        _check_node(node)
    input_node = _input_of(last, nodes)
    _check_leaves(last, nodes)
    _check_inputs_used(last, input_node)
    return _Planner(last, nodes, slots).plan()


# What cannot be compiled


def _check_compiled_once(last: DAGNode, nodes: Iterable[DAGNode]) -> None:
    for node in nodes:
        if node._is_compiled and node is not last:
            raise ValueError(
                "The DAG was compiled more than once. The following two nodes call `experimental_compile`: "
                f"(1) {node!r}, (2) {last!r}. Bind the graph anew."
            )


def _check_node(node: DAGNode) -> None:
    for arg in node._bound_args:
        if not isinstance(arg, DAGNode) and (inside := find_all(arg, DAGNode)):
            raise ValueError(
                f"Found {len(inside)} DAGNodes from the arg {arg!r} in {node!r}. Please ensure that the argument is a "
                "single DAGNode and that a DAGNode is not allowed to be placed inside any type of container."
            )
    if isinstance(node, FunctionNode):
        raise NotImplementedError(
            f"Compiled DAGs currently only support actor method nodes, and {node!r} is a function. Make it a method of an "
            "actor, or run the graph with execute()."
        )
    if isinstance(node, ClassNode) or (isinstance(node, ClassMethodNode) and node._get_actor_handle() is None):
        raise ValueError(
            f"Compiled DAGs can only bind methods to an actor that is already created with Actor.remote(), and {node!r} "
            "is of one that is not."
        )
    if not isinstance(node, (InputNode, InputAttributeNode, MultiOutputNode, ClassMethodNode)):
        raise ValueError(f"Found unsupported node of type {type(node)}: only methods of actors can be compiled.")
    if isinstance(node, ClassMethodNode) and node.num_returns < 0:
        raise ValueError(f"{node._method_name}() is a generator, and a compiled graph's values are whole.")
    if find_all(node._bound_kwargs, DAGNode):
        raise ValueError(
            "Compiled DAG currently does not support binding to other DAG nodes as kwargs: pass them by position in "
            f"{node!r}."
        )
    transport = node._transport
    if transport is not None and transport.needs_accelerator:
        if isinstance(node, (InputNode, InputAttributeNode)):
            raise ValueError(
                "DAG inputs cannot be transferred via accelerator because the driver cannot participate in the "
                "communicator group. Use with_tensor_transport('auto')."
            )
        raise ValueError(
            f"with_tensor_transport({transport.name!r}) on {node!r} cannot be had: {why_no_accelerator()}. Use 'auto'."
        )


def _input_of(last: DAGNode, nodes: Iterable[DAGNode]) -> InputNode:
    inputs = [node for node in nodes if isinstance(node, InputNode)]
    if len(inputs) > 1:
        raise ValueError("More than one InputNode found in the DAG: use one, and index it.")
    above = last._ancestors()
    if not inputs or inputs[0] not in above:
        raise ValueError(
            "No InputNode found in the DAG: when traversing upwards, no upstream node was found for "
            f"{min(above, key=lambda node: node._order)!r}. Bind an argument to an InputNode; its value may be ignored."
        )
    return inputs[0]


def _check_leaves(last: DAGNode, nodes: Iterable[DAGNode]) -> None:
    leaves = [node for node in nodes if isinstance(node, ClassMethodNode) and not node._downstream and node is not last]
    if leaves:
        # An error of a node that nobody reads would be lost.
        raise ValueError(
            "Compiled DAG doesn't support leaf nodes, i.e., nodes that don't have downstream nodes and are not output "
            f"nodes. There are {len(leaves)} leaf nodes in the DAG. Please add the outputs of "
            f"{[leaf.get_method_name() for leaf in leaves]} to the MultiOutputNode."
        )


def _check_inputs_used(last: DAGNode, input_node: InputNode) -> None:
    above = last._ancestors()
    known = input_node.input_attribute_nodes
    unused = [key for key, node in known.items() if node not in above]
    if unused:
        verb = "is unused" if len(unused) == 1 else "are unused"
        raise ValueError(
            f"Compiled Graph expects input to be accessed using all of attributes {', '.join(map(str, known))}, but "
            f"{', '.join(map(str, unused))} {verb}. Ensure all input attributes are used and contribute to the computation "
            "of the Compiled Graph output."
        )


# The plan


class _Planner:
    """Works one plan out; used once."""

    def __init__(self, last: DAGNode, nodes: list[DAGNode], slots: int) -> None:
        self._last = last
        self._nodes = nodes
        self._slots = slots
        self._numbers = {node: number for number, node in enumerate(nodes)}
        self._participants: dict[Any, int] = {}
        for node in nodes:
            if isinstance(node, ClassMethodNode):
                self._participants.setdefault(node._get_actor_handle(), len(self._participants) + 1)
        if len(self._participants) >= PARTICIPANTS_MAX:
            raise ValueError(
                f"A compiled graph has at most {PARTICIPANTS_MAX - 1} actors, and this one has {len(self._participants)}."
            )
        self._channels: list[ChannelPlan] = []
        self._channel_of: dict[DAGNode, int] = {}

    def plan(self) -> GraphPlan:
        results = list(self._last._bound_args) if isinstance(self._last, MultiOutputNode) else [self._last]
        self._check_results(results)
        self._check_sources()
        readers = self._readers(results)
        for node, who in readers.items():
            writer = self._participant(node)
            others = sorted(who - {writer})
            if others:
                self._channel_of[node] = len(self._channels)
                self._channels.append(ChannelPlan(writer, tuple(others), self._slots))
        inputs = [node for node in readers if isinstance(node, (InputNode, InputAttributeNode))]
        whole = any(isinstance(node, InputNode) for node in inputs)
        keys = [node.key for node in inputs if isinstance(node, InputAttributeNode)]
        if whole and keys:
            raise ValueError(
                "All tasks must either use InputNode() directly, or they must index to specific args or kwargs."
            )
        positions = [key for key in keys if isinstance(key, int)]
        actors = list(self._participants)
        return GraphPlan(
            channels=self._channels,
            actors=actors,
            plans=[self._actor_plan(actor) for actor in actors],
            inputs=[InputPlan(_key(node), self._channel_of[node]) for node in inputs],
            outputs=[self._channel_of[node] for node in results],
            output_devices={self._channel_of[node]: _device(node) for node in results},
            returns_list=isinstance(self._last, MultiOutputNode),
            positional=1 if whole else max(positions, default=-1) + 1,
            keywords=[key for key in keys if isinstance(key, str)],
            nodes=self._nodes,
        )

    def _check_results(self, results: list[Any]) -> None:
        for node in results:
            if not isinstance(node, ClassMethodNode):
                raise ValueError(f"The results of a compiled graph must come from methods of actors, got {node!r}.")

    def _check_sources(self) -> None:
        for node in self._nodes:
            if isinstance(node, ClassMethodNode) and not any(isinstance(arg, DAGNode) for arg in node._bound_args):
                raise ValueError(
                    "Compiled DAGs require each task to take a ray.dag.InputNode or at least one other DAGNode as an "
                    f"input. Invalid task node:\n{node}\nPlease bind the task to proper DAG nodes."
                )

    def _readers(self, results: list[Any]) -> dict[DAGNode, set[int]]:
        """Every value that somebody takes, and who does, by participant."""
        readers: dict[DAGNode, set[int]] = {}
        for node in self._nodes:
            if isinstance(node, ClassMethodNode) and node.is_class_method_call:
                for arg in node._bound_args:
                    if isinstance(arg, DAGNode):
                        readers.setdefault(arg, set()).add(self._participant(node))
        for node in results:
            readers.setdefault(node, set()).add(DRIVER)
        return readers

    def _participant(self, node: DAGNode) -> int:
        return self._participants[node._get_actor_handle()] if isinstance(node, ClassMethodNode) else DRIVER

    def _actor_plan(self, actor: Any) -> ActorPlan:
        own = self._participants[actor]
        plan = ActorPlan(own, actor._state.class_name, [], {}, {}, self._channels, len(self._participants) + 1)
        for node in self._nodes:
            if isinstance(node, ClassMethodNode) and node.is_class_method_call and self._participant(node) == own:
                plan.steps.append(self._step(node))
                for arg in node._bound_args:
                    if isinstance(arg, DAGNode):
                        number = self._numbers[arg]
                        if self._participant(arg) != own:
                            plan.reads[number] = self._channel_of[arg]
                        if device := _device(arg):
                            plan.devices[number] = device
        return plan

    def _step(self, node: ClassMethodNode) -> Step:
        args = node._bound_args
        values = [child for child in node._downstream if _is_value_of(child, node)]
        if values:
            outputs = [self._output(value, value._bound_args[1]) for value in values]
        else:
            outputs = [self._output(node, -1)]
        return Step(
            node._method_name,
            [self._numbers[arg] if isinstance(arg, DAGNode) else -1 for arg in args],
            [None if isinstance(arg, DAGNode) else arg for arg in args],
            dict(node._bound_kwargs),
            outputs,
            node.num_returns,
            node._collective if isinstance(node, CollectiveOutputNode) else None,
        )

    def _output(self, node: DAGNode, index: int) -> Output:
        return Output(self._numbers[node], index, self._channel_of.get(node, -1))


def _is_value_of(node: DAGNode, call: ClassMethodNode) -> bool:
    return isinstance(node, ClassMethodNode) and node.class_method_call is call


def _key(node: DAGNode) -> int | str | None:
    # Not by getattr: every attribute of an InputNode is a part of the input.
    return node.key if isinstance(node, InputAttributeNode) else None


def _device(node: DAGNode) -> str:
    return node._transport.device if node._transport is not None else ""
