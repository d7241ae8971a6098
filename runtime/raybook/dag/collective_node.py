"""CollectiveOutputNode: what one actor gets out of an operation that several actors take part in.

The operation is written down as one call on each actor that takes every actor's tensor; in a compiled graph each tensor is
written once, and all read it in place. Each actor adds up in the same order, so all get the same bits.
"""

from __future__ import annotations

from typing import Any

from raybook.api import ActorHandle
from raybook.dag.class_node import PARENT_CLASS_NODE_KEY, ClassMethodNode, output_node
from raybook.dag.node import DAGNode
from raybook.dag.reductions import Collective, apply
from raybook.dag.transport import make_transport

COLLECTIVE_OPERATION_KEY = "collective_operation"


class CollectiveOutputNode(ClassMethodNode):
    """The result on one actor; of several lists of inputs, a call with as many values."""

    def __init__(self, actor: ActorHandle, collective: Collective, args: tuple) -> None:
        self._collective = collective
        others = {PARENT_CLASS_NODE_KEY: actor, COLLECTIVE_OPERATION_KEY: collective}
        super().__init__(collective.name, args, {}, {}, others, num_returns=collective.lists)

    def _run(self, values: dict[DAGNode, Any], args: tuple, kwargs: dict) -> Any:
        own_args, _ = self._resolved_args(values)
        handle = self._get_actor_handle()
        assert handle is not None
        call = handle.__ray_call__.options(num_returns=self._collective.lists)
        return call.remote(_apply_on_actor, self._collective, *own_args)


def _apply_on_actor(instance: Any, collective: Collective, *tensors: Any) -> Any:
    return apply(collective, tensors)


def bind_collective(inputs: Any, kind: str, op: str, transport: Any = None) -> list[Any]:
    """The nodes of one operation: for a list of nodes, one for each actor; for a list of lists, a list for each actor.
    ValueError for what is no list of nodes of different living actors."""
    lists = _checked_lists(inputs)
    if transport is not None:
        if make_transport(transport, "default").needs_accelerator:
            raise ValueError(
                f"{kind}.bind(transport={transport!r}): collective operations run over CPU tensors in shared memory. Leave "
                "the transport out."
            )
    nested = isinstance(inputs[0], list)
    if nested and kind != "allreduce":
        raise ValueError("Currently binding a nested list of dag nodes is only supported for allreduce.")
    actors = [node._get_actor_handle() for node in lists[0]]
    results: list[Any] = []
    for rank, actor in enumerate(actors):
        collective = Collective(kind, op, rank, len(actors), len(lists))
        node = CollectiveOutputNode(actor, collective, tuple(node for nodes in lists for node in nodes))
        if len(lists) == 1:
            results.append(node)
        else:
            results.append([output_node(f"return_idx_{index}", node, index) for index in range(len(lists))])
    return results


def _checked_lists(inputs: Any) -> list[list[Any]]:
    if not isinstance(inputs, list) or not inputs:
        raise ValueError("Expected non-empty input list.")
    lists = inputs if isinstance(inputs[0], list) else [inputs]
    first: list[Any] = []
    for index, nodes in enumerate(lists):
        where = f" at index {index}" if len(lists) > 1 else ""
        if not nodes:
            raise ValueError(f"Expected non-empty input list{where}.")
        if not all(isinstance(node, DAGNode) for node in nodes):
            raise ValueError(f"Expected all input nodes to be DAGNode{where}, but got {nodes}.")
        if len(set(nodes)) != len(nodes):
            raise ValueError(f"Expected unique input nodes{where}, but found duplicates among {nodes}.")
        actors = [node._get_actor_handle() if isinstance(node, ClassMethodNode) else None for node in nodes]
        if None in actors:
            raise ValueError(f"Expected an actor handle from the input node{where}: each must be a method's result.")
        if len(set(actors)) != len(actors):
            raise ValueError(f"Expected unique actor handles{where}, but found duplicate actor handles: {actors}.")
        first = first or actors
        if len(actors) != len(first):
            raise ValueError(f"Expected all input lists to have the same number of nodes; the list{where} differs.")
        if set(actors) != set(first):
            raise ValueError(
                f"Expected all input lists to have the same set of actor handles; the list{where} differs."
            )
        if actors != first:
            raise ValueError(
                f"Expected all input lists to have the same order of actor handles; the list{where} differs."
            )
    return lists
