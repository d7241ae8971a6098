"""Graphs that are written down before they run: ``.bind`` instead of ``.remote``, ``execute`` as often as you like.

    with InputNode() as inp:
        dag = b.forward.bind(a.forward.bind(inp))
    ray.get(dag.execute(x))                  # plain calls
    compiled = dag.experimental_compile()    # the same graph, without a task for each call
    ray.get(compiled.execute(x))

node                DAGNode; function_node class_node input_node output_node collective_node: its kinds
scan, transport     nodes inside arguments; how tensors travel
compiled_dag_node   CompiledDAG: what a compiled graph can do    compile_plan: who runs what, and which graphs cannot be
references, results CompiledDAGRef and CompiledDAGFuture, and what has been read for them
participant         the loop in each actor
graph_memory ring block_list doorbell    how values go from process to process, without a socket
picture             ``visualize``
"""

from raybook.dag.class_node import (
    BIND_INDEX_KEY,
    IS_CLASS_METHOD_OUTPUT_KEY,
    PARENT_CLASS_NODE_KEY,
    PREV_CLASS_METHOD_CALL_KEY,
    ClassMethodNode,
    ClassNode,
)
from raybook.dag.collective_node import COLLECTIVE_OPERATION_KEY, CollectiveOutputNode
from raybook.dag.compiled_dag_node import CompiledDAG
from raybook.dag.context import DAGContext
from raybook.dag.function_node import FunctionNode
from raybook.dag.input_node import DAGInputData, InputAttributeNode, InputNode
from raybook.dag.node import DAGNode
from raybook.dag.output_node import MultiOutputNode
from raybook.dag.references import CompiledDAGFuture, CompiledDAGRef

__all__ = [
    "BIND_INDEX_KEY",
    "COLLECTIVE_OPERATION_KEY",
    "CompiledDAG",
    "CompiledDAGFuture",
    "CompiledDAGRef",
    "IS_CLASS_METHOD_OUTPUT_KEY",
    "PARENT_CLASS_NODE_KEY",
    "PREV_CLASS_METHOD_CALL_KEY",
    "ClassMethodNode",
    "ClassNode",
    "CollectiveOutputNode",
    "DAGContext",
    "DAGInputData",
    "DAGNode",
    "FunctionNode",
    "InputAttributeNode",
    "InputNode",
    "MultiOutputNode",
]
