"""DAGNode: one step of a graph that is written down before it runs.

It knows its arguments, which may hold other nodes, and runs the graph above it with plain calls (`execute`). How a graph
is compiled is `compile_plan`'s affair. Invariants: a node's arguments exist before it does, so the order of creation is
an order in which every graph can run; within one `execute`, a node runs once, however many others take its value.
"""

from __future__ import annotations

import itertools
import uuid
from collections.abc import Callable, Iterator
from typing import Any, NoReturn

from raybook.dag.scan import find_all, substitute
from raybook.dag.transport import TensorTransport, make_transport

_ORDER = itertools.count()
"""Numbers nodes as they are made."""


class DAGNode:
    """The base of all nodes. args, kwargs: of the call, with nodes anywhere inside. options: as for ``.options``.
    other_args_to_resolve: further things that may be or hold nodes, by name, such as the actor that a call goes to."""

    __never_pickled__ = True

    def __init__(
        self,
        args: Any,
        kwargs: dict[str, Any] | None,
        options: dict[str, Any] | None,
        other_args_to_resolve: dict[str, Any] | None = None,
    ) -> None:
        self._bound_args = tuple(args or ())
        self._bound_kwargs = kwargs or {}
        self._bound_options = options or {}
        self._bound_other_args_to_resolve = other_args_to_resolve or {}
        self._stable_uuid = uuid.uuid4().hex
        self._order = next(_ORDER)
        self._transport: TensorTransport | None = None
        self.cache_from_last_execute: dict[str, Any] = {}
        self._is_compiled = False
        self._downstream: list[DAGNode] = []
        self._upstream: list[DAGNode] = find_all(
            [self._bound_args, self._bound_kwargs, self._bound_other_args_to_resolve], DAGNode
        )
        for node in self._upstream:
            node._downstream.append(self)

    # What it was made of

    def get_args(self) -> tuple[Any, ...]:
        """Positional arguments as they were bound."""
        return self._bound_args

    def get_kwargs(self) -> dict[str, Any]:
        """Keyword arguments as they were bound; a copy."""
        return dict(self._bound_kwargs)

    def get_options(self) -> dict[str, Any]:
        """Options of the call or actor; a copy."""
        return dict(self._bound_options)

    def get_other_args_to_resolve(self) -> dict[str, Any]:
        """What else the node depends on, by name; a copy."""
        return dict(self._bound_other_args_to_resolve)

    def get_stable_uuid(self) -> str:
        """The node's id, 32 hexadecimal digits."""
        return self._stable_uuid

    def _get_toplevel_child_nodes(self) -> list[DAGNode]:
        """Nodes that are arguments themselves."""
        values = (*self._bound_args, *self._bound_kwargs.values(), *self._bound_other_args_to_resolve.values())
        return list(dict.fromkeys(value for value in values if isinstance(value, DAGNode)))

    def _get_all_child_nodes(self) -> list[DAGNode]:
        """Nodes anywhere in the arguments."""
        return list(self._upstream)

    # Running it

    def execute(self, *args: Any, _ray_cache_refs: bool = False, **kwargs: Any) -> Any:
        """Run the graph that ends here, by plain tasks and actor calls; returns at once with what the last node returns:
        an ObjectRef, an ActorHandle, or a list of them. args, kwargs: what its InputNode stands for. Each call makes the
        actors of its ClassNodes anew. _ray_cache_refs: keep what every node returned. AssertionError for a graph with two
        InputNodes."""
        nodes = sorted(self._ancestors(), key=lambda node: node._order)
        inputs = [node for node in nodes if node._is_input()]
        assert len(inputs) <= 1, f"Each DAG should only have one unique InputNode; this one has {len(inputs)}."
        values: dict[DAGNode, Any] = {}
        for node in nodes:
            values[node] = node._run(values, args, kwargs)
        if _ray_cache_refs:
            self.cache_from_last_execute = {node._stable_uuid: value for node, value in values.items()}
        return values[self]

    async def get_object_refs_from_last_execute(self) -> dict[str, Any]:
        """By the nodes' ids, what each returned in the last ``execute(_ray_cache_refs=True)``."""
        return dict(self.cache_from_last_execute)

    def clear_cache(self) -> None:
        """Let go of it."""
        self.cache_from_last_execute = {}

    def traverse_and_apply(self, fn: Callable[[DAGNode], Any]) -> None:
        """Call ``fn`` with every node of the graph, in the order they were made."""
        for node in self._component():
            fn(node)

    def _ancestors(self) -> set[DAGNode]:
        """This node and all it depends on. Without recursion: chains may be long."""
        known = {self}
        waiting = [self]
        while waiting:
            for node in waiting.pop()._upstream:
                if node not in known:
                    known.add(node)
                    waiting.append(node)
        return known

    def _run(self, values: dict[DAGNode, Any], args: tuple, kwargs: dict) -> Any:
        """Run this node alone. values: of the nodes above. args, kwargs: of ``execute``."""
        raise NotImplementedError

    def _resolved_args(self, values: dict[DAGNode, Any]) -> tuple[tuple, dict[str, Any]]:
        if not self._upstream:
            return self._bound_args, self._bound_kwargs
        resolved: tuple[tuple, dict[str, Any]] = substitute(
            (self._bound_args, self._bound_kwargs), DAGNode, values.__getitem__
        )
        return resolved

    def _is_input(self) -> bool:
        return False

    # Compiling it

    def with_tensor_transport(
        self,
        transport: Any = "auto",
        device: str = "default",
        _static_shape: bool = False,
        _direct_return: bool = False,
    ) -> Any:
        """How tensors in this node's value travel in a compiled graph; the node itself is returned. "auto" and "shm":
        through shared memory. "nccl" and "accelerator" need CUDA. device: "cpu" or "cuda" moves them for the reader.
        ValueError for anything else."""
        self._transport = make_transport(transport, device)
        return self

    def experimental_compile(
        self,
        _submit_timeout: float | None = None,
        _buffer_size_bytes: int | None = None,
        enable_asyncio: bool = False,
        _max_inflight_executions: int | None = None,
        _max_buffered_results: int | None = None,
        _overlap_gpu_communication: bool | None = None,
        _default_communicator: Any = "create",
    ) -> Any:
        """A ``CompiledDAG``: the same graph, whose actors hand values to each other through shared memory, without a task
        for each call. See there. ValueError or NotImplementedError, saying why, for a graph that cannot be compiled."""
        return DAGNode._compile(
            self,
            submit_timeout=_submit_timeout,
            buffer_size_bytes=_buffer_size_bytes,
            enable_asyncio=enable_asyncio,
            max_inflight_executions=_max_inflight_executions,
            max_buffered_results=_max_buffered_results,
            overlap_gpu_communication=_overlap_gpu_communication,
            default_communicator=_default_communicator,
        )

    _compile: Callable[..., Any]
    """``compiled_dag_node`` puts itself here: nodes compile, and a compiled graph is made of nodes."""

    def _component(self) -> list[DAGNode]:
        """Every node that is connected with this one, in the order they were made."""
        known = {self}
        waiting = [self]
        while waiting:
            node = waiting.pop()
            for neighbour in itertools.chain(node._upstream, node._downstream):
                if neighbour not in known:
                    known.add(neighbour)
                    waiting.append(neighbour)
        return sorted(known, key=lambda node: node._order)

    # As text

    def _body_text(self) -> str:
        return type(self).__name__

    def __str__(self) -> str:
        return "\n".join(_lines(self, set()))

    def __repr__(self) -> str:
        return f"({type(self).__name__}, {self._stable_uuid})"

    def __getattr__(self, name: str) -> Any:
        if name == "bind":
            raise AttributeError(f".bind() cannot be used again on {type(self)}")
        if name == "remote":
            raise AttributeError(f".remote() cannot be used on {type(self)}. To run the graph, use .execute().")
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")

    def __reduce__(self) -> NoReturn:
        raise ValueError(
            f"{self!r} cannot be pickled: a graph belongs to the process that wrote it down. Run it here, and pass on "
            "what it returns."
        )


def _lines(node: DAGNode, shown: set[DAGNode]) -> Iterator[str]:
    """A node and those in its arguments, indented; one that was shown already only by its id."""
    if node in shown:
        yield repr(node)
        return
    shown.add(node)
    yield f"{node!r}("
    yield f"    body={node._body_text()}"
    fields: dict[str, dict[Any, Any]] = {
        "args": dict(enumerate(node._bound_args)),
        "kwargs": node._bound_kwargs,
        "options": node._bound_options,
        "other_args_to_resolve": node._bound_other_args_to_resolve,
    }
    for name, values in fields.items():
        begin, end = "[]" if name == "args" else "{}"
        if not values:
            yield f"    {name}={begin}{end}"
            continue
        yield f"    {name}={begin}"
        for key, value in values.items():
            label = "" if name == "args" else f"{key}: "
            lines = list(_lines(value, shown)) if isinstance(value, DAGNode) else [_short(value)]
            nested = [] if isinstance(value, DAGNode) else find_all(value, DAGNode)
            yield f"        {label}{lines[0]}"
            yield from (f"        {line}" for line in lines[1:])
            for child in (child for child in nested if child not in shown):
                yield from (f"            {line}" for line in _lines(child, shown))
        yield f"    {end}"
    yield ")"


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 200 else f"{text[:200]}…"
