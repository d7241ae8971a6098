"""InputNode: what is given to ``execute`` when the graph runs; InputAttributeNode: a part of it."""

from __future__ import annotations

from typing import Any

from raybook.dag.node import DAGNode

NOT_IN_CONTEXT = (
    "InputNode is a singleton instance that should be only used in context manager for dag building and execution: "
    "write `with InputNode() as inp:` and bind the graph inside."
)


class InputNode(DAGNode):
    """Stands for the input of a graph: ``with InputNode() as inp: dag = f.bind(inp)``, then ``dag.execute(5)``.

    With one argument of ``execute``, ``inp`` is that argument, and ``inp[0]``, ``inp["key"]`` and ``inp.name`` are its
    items and attributes. With several, ``inp[0]`` is the first and ``inp.name`` the one passed as ``name=``.
    input_type: of the input, or by key; documentation only. ValueError for any other argument.
    """

    def __init__(self, *args: Any, input_type: Any = None, **kwargs: Any) -> None:
        if args or kwargs:
            raise ValueError("InputNode should not take any args or kwargs: the input comes with execute(...).")
        # Before anything that could ask for an attribute: attributes of this class are parts of the input.
        self.input_attribute_nodes: dict[Any, InputAttributeNode] = {}
        self.input_type = input_type
        self._is_in_context = False
        super().__init__((), {}, {})

    def __enter__(self) -> InputNode:
        self._is_in_context = True
        return self

    def __exit__(self, *exception: Any) -> None:
        pass

    def _is_input(self) -> bool:
        return True

    def _run(self, values: dict[DAGNode, Any], args: tuple, kwargs: dict) -> Any:
        assert self._is_in_context, NOT_IN_CONTEXT
        return args[0] if len(args) == 1 and not kwargs else DAGInputData(*args, **kwargs)

    def __getattr__(self, key: str) -> Any:
        if key.startswith("__"):
            raise AttributeError(key)
        return self._part(key, "__getattr__")

    def __getitem__(self, key: int | str) -> InputAttributeNode:
        assert isinstance(key, (str, int)), (
            "Please only use int index or str as first-level key to access fields of dag input."
        )
        return self._part(key, "__getitem__")

    def _part(self, key: int | str, accessor: str) -> InputAttributeNode:
        node = self.input_attribute_nodes.get(key)
        if node is None:
            node = self.input_attribute_nodes[key] = InputAttributeNode(self, key, accessor)
        return node

    def _body_text(self) -> str:
        return "__InputNode__"


class InputAttributeNode(DAGNode):
    """One argument of ``execute``, or a part of its only one. accessor: how it was asked for."""

    def __init__(self, dag_input_node: InputNode, key: int | str, accessor_method: str) -> None:
        self._key = key
        self._accessor = accessor_method
        others = {"dag_input_node": dag_input_node, "key": key, "accessor_method": accessor_method}
        super().__init__((), {}, {}, others)

    @property
    def key(self) -> int | str:
        """Index or name."""
        return self._key

    def _run(self, values: dict[DAGNode, Any], args: tuple, kwargs: dict) -> Any:
        whole = values[self._bound_other_args_to_resolve["dag_input_node"]]
        if self._accessor == "__getattr__" and not isinstance(whole, DAGInputData):
            return getattr(whole, str(self._key))
        return whole[self._key]

    def _body_text(self) -> str:
        return f'["{self._key}"]'


class DAGInputData:
    """All arguments of one ``execute``: the positional ones by index, the others by name."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self._args = list(args)
        self._kwargs = kwargs

    def __getitem__(self, key: int | str) -> Any:
        if isinstance(key, int):
            return self._args[key]
        if isinstance(key, str):
            return self._kwargs[key]
        raise ValueError("Please only use int index or str as first-level key to access fields of dag input.")
