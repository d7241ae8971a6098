"""Binding: what ``.bind`` of functions, classes and methods makes: nodes of a graph that runs later.

The nodes are ``raybook.dag``'s, which is imported when the first one is made: programs without graphs do not load it.
"""

from __future__ import annotations

from typing import Any


def bind_function(function: Any, args: tuple, kwargs: dict) -> Any:
    """The node of one call of a remote function."""
    from raybook.dag.function_node import FunctionNode

    return FunctionNode(function, args, kwargs)


def bind_class(actor_class: Any, args: tuple, kwargs: dict) -> Any:
    """The node of one actor to be created."""
    from raybook.dag.class_node import ClassNode

    return ClassNode(actor_class, args, kwargs)


def bind_method(method: Any, args: tuple, kwargs: dict, num_returns: int, options: dict[str, Any]) -> Any:
    """The node of one call of a living actor; a tuple of nodes, one for each value, for more than one return value."""
    from raybook.dag.class_node import bind_to_handle

    return bind_to_handle(method, args, kwargs, num_returns, options)
