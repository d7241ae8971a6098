"""Picture: a compiled graph as text."""

from __future__ import annotations

from collections.abc import Iterator

from raybook.dag.class_node import ClassMethodNode
from raybook.dag.compile_plan import GraphPlan
from raybook.dag.input_node import InputAttributeNode, InputNode
from raybook.dag.node import DAGNode
from raybook.dag.output_node import MultiOutputNode


def draw(plan: GraphPlan, filename: str, format: str, view: bool, channel_details: bool) -> str:
    """See ``CompiledDAG.visualize``."""
    if format == "ascii":
        text = "\n".join(_ascii(plan))
        if view:
            print(text)
        return text
    try:
        import graphviz
    except ImportError:
        raise ImportError(
            f"visualize(format={format!r}) needs the library graphviz, and Graphviz itself: pip install graphviz. "
            "format='ascii' needs nothing."
        ) from None
    picture = graphviz.Source("\n".join(_dot(plan, channel_details)), filename=filename, format=format)
    picture.render(view=view)
    return str(picture.source)


def _label(node: DAGNode) -> str:
    if isinstance(node, InputNode):
        return "InputNode"
    if isinstance(node, InputAttributeNode):
        return f"InputAttributeNode[{node.key}]"
    if isinstance(node, MultiOutputNode):
        return "MultiOutputNode"
    if isinstance(node, ClassMethodNode) and node.is_class_method_output:
        return f"Output[{node.output_idx}]"
    assert isinstance(node, ClassMethodNode)
    actor = node._get_actor_handle()
    short = actor._actor_id.hex()[-6:] if actor is not None else "?"
    return f"Actor_{short}:{node.get_method_name()}"


def _edges(plan: GraphPlan) -> Iterator[tuple[int, int]]:
    number = {node: index for index, node in enumerate(plan.nodes)}
    for node in plan.nodes:
        for above in node._upstream:
            if above in number:
                yield number[above], number[node]


def _ascii(plan: GraphPlan) -> Iterator[str]:
    yield "Nodes Information:"
    for index, node in enumerate(plan.nodes):
        yield f'{index} [label="{_label(node)}"]'
    yield ""
    yield "Edges Information:"
    edges = list(_edges(plan))
    for above, below in edges:
        yield f"{above} ---> {below}"
    yield ""
    yield "Graph Built:"
    depth = [0] * len(plan.nodes)
    for above, below in edges:
        # Nodes are in the order they were made, so everything above a node was seen before it.
        depth[below] = max(depth[below], depth[above] + 1)
    for level in range(max(depth) + 1):
        row = [f"{index}:{_label(node)}" for index, node in enumerate(plan.nodes) if depth[index] == level]
        yield ("    " if level else "") + "    ".join(row)
        if level < max(depth):
            yield "    |"


def _dot(plan: GraphPlan, channel_details: bool) -> Iterator[str]:
    yield "digraph compiled_graph {"
    for index, node in enumerate(plan.nodes):
        yield f'  {index} [label="{_label(node)}"];'
    for above, below in _edges(plan):
        label = ' [label="shared memory"]' if channel_details else ""
        yield f"  {above} -> {below}{label};"
    yield "}"
