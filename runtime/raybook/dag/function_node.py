"""FunctionNode: a call of a remote function, bound."""

from __future__ import annotations

from typing import Any

from raybook.dag.node import DAGNode


class FunctionNode(DAGNode):
    """Made by ``f.bind(...)``. function: the RemoteFunction."""

    def __init__(self, function: Any, args: tuple, kwargs: dict[str, Any]) -> None:
        self._function = function
        super().__init__(args, kwargs, function._options)

    def _run(self, values: dict[DAGNode, Any], args: tuple, kwargs: dict) -> Any:
        own_args, own_kwargs = self._resolved_args(values)
        return self._function.remote(*own_args, **own_kwargs)

    def _body_text(self) -> str:
        return str(self._function._function)
