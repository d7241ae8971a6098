"""MultiOutputNode: the end of a graph with several results."""

from __future__ import annotations

from typing import Any

from raybook.dag.node import DAGNode


class MultiOutputNode(DAGNode):
    """``MultiOutputNode([a, b])``: ``execute`` returns a list with the result of each. ValueError for what is no list or
    tuple."""

    def __init__(self, args: list[Any] | tuple[Any, ...]) -> None:
        if not isinstance(args, (list, tuple)):
            raise ValueError(f"Invalid input type for `args`, {type(args)}: MultiOutputNode takes a list of nodes.")
        super().__init__(tuple(args), {}, {})

    def _run(self, values: dict[DAGNode, Any], args: tuple, kwargs: dict) -> Any:
        return list(self._resolved_args(values)[0])

    def _body_text(self) -> str:
        return "__MultiOutputNode__"
