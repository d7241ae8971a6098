"""ClassNode and ClassMethodNode: an actor to be created, and calls of actors, both bound.

Calls of one ClassNode's actor run in the order they were bound: each depends on the one before.
"""

from __future__ import annotations

from typing import Any, NoReturn

from raybook.api import ActorHandle
from raybook.dag.input_node import InputAttributeNode, InputNode
from raybook.dag.node import DAGNode

PARENT_CLASS_NODE_KEY = "parent_class_node"
PREV_CLASS_METHOD_CALL_KEY = "prev_class_method_call"
BIND_INDEX_KEY = "bind_index"
IS_CLASS_METHOD_OUTPUT_KEY = "is_class_method_output"
"""Names among ``get_other_args_to_resolve``, as Ray has them."""


class ClassNode(DAGNode):
    """Made by ``Cls.bind(...)``: an actor that each ``execute`` creates. Its methods are attributes, with ``.bind``."""

    def __init__(self, actor_class: Any, args: tuple, kwargs: dict[str, Any]) -> None:
        self._actor_class = actor_class
        self._last_call: ClassMethodNode | None = None
        super().__init__(args, kwargs, actor_class._options)
        if any(isinstance(node, (InputNode, InputAttributeNode)) for node in self._upstream):
            raise ValueError(
                "InputNode handles user dynamic input of the DAG, and cannot be an argument of a ClassNode: the actor is "
                "made from what is known when it is bound. Pass the input to one of its methods."
            )

    def _run(self, values: dict[DAGNode, Any], args: tuple, kwargs: dict) -> Any:
        own_args, own_kwargs = self._resolved_args(values)
        return self._actor_class.remote(*own_args, **own_kwargs)

    def __getattr__(self, name: str) -> UnboundMethod:
        if name.startswith("_"):
            raise AttributeError(name)
        cls = self._actor_class._cls
        if name == "bind" and not hasattr(cls, "bind"):
            raise AttributeError(f".bind() cannot be used again on {type(self)}")
        getattr(cls, name)
        return UnboundMethod(self, name, {})

    def _body_text(self) -> str:
        return str(self._actor_class._cls)


class UnboundMethod:
    """A method of a ClassNode's actor: ``.bind(...)`` makes a node of it."""

    def __init__(self, actor: ClassNode, name: str, options: dict[str, Any]) -> None:
        self._actor = actor
        self._name = name
        self._options = options

    def options(self, **options: Any) -> UnboundMethod:
        """The same method with options for the call."""
        return UnboundMethod(self._actor, self._name, {**self._options, **options})

    def bind(self, *args: Any, **kwargs: Any) -> ClassMethodNode:
        """A node of one call. TypeError for arguments that do not fit the method."""
        self._actor._actor_class._signatures[self._name].check(args, kwargs)
        others = {PARENT_CLASS_NODE_KEY: self._actor, PREV_CLASS_METHOD_CALL_KEY: self._actor._last_call}
        node = ClassMethodNode(self._name, args, kwargs, self._options, others)
        self._actor._last_call = node
        return node

    def __getattr__(self, name: str) -> NoReturn:
        if name == "remote":
            raise AttributeError(".remote() cannot be used on ClassMethodNodes. Use .bind() to write the call down.")
        raise AttributeError(name)


class ClassMethodNode(DAGNode):
    """One call of an actor; or, of a call with several return values, one of these values. method: of a living actor,
    an ActorMethod; None for the method of a ClassNode."""

    def __init__(
        self,
        method_name: str,
        args: tuple,
        kwargs: dict[str, Any],
        options: dict[str, Any],
        others: dict[str, Any],
        method: Any = None,
        num_returns: int = 1,
    ) -> None:
        self._method_name = method_name
        self._method = method
        self._num_returns = num_returns
        super().__init__(args, kwargs, options, others)

    def _run(self, values: dict[DAGNode, Any], args: tuple, kwargs: dict) -> Any:
        if self.is_class_method_output:
            call, index = self._bound_args
            return values[call][index]
        own_args, own_kwargs = self._resolved_args(values)
        method = self._method
        if method is None:
            actor = values[self._bound_other_args_to_resolve[PARENT_CLASS_NODE_KEY]]
            method = getattr(actor, self._method_name)
            if self._bound_options:
                method = method.options(**self._bound_options)
        return method.remote(*own_args, **own_kwargs)

    def get_method_name(self) -> str:
        """The name of the method; ``return_idx_0`` and so on for one of several values."""
        return self._method_name

    def _get_actor_handle(self) -> ActorHandle | None:
        """The actor, where it lives already."""
        parent = self._bound_other_args_to_resolve.get(PARENT_CLASS_NODE_KEY)
        return parent if isinstance(parent, ActorHandle) else None

    @property
    def num_returns(self) -> int:
        """How many values the call returns."""
        call = self.class_method_call
        return self._num_returns if call is None else call._num_returns

    @property
    def is_class_method_call(self) -> bool:
        """Whether this is the call itself."""
        return not self.is_class_method_output

    @property
    def is_class_method_output(self) -> bool:
        """Whether this is one of the values of a call."""
        return bool(self._bound_other_args_to_resolve.get(IS_CLASS_METHOD_OUTPUT_KEY))

    @property
    def class_method_call(self) -> ClassMethodNode | None:
        """The call that this is a value of."""
        return self._bound_args[0] if self.is_class_method_output else None

    @property
    def output_idx(self) -> int | None:
        """Which of its values, from 0 on."""
        return self._bound_args[1] if self.is_class_method_output else None

    def _body_text(self) -> str:
        return f"{self._method_name}()"


def bind_to_handle(method: Any, args: tuple, kwargs: dict[str, Any], num_returns: int, options: dict[str, Any]) -> Any:
    """What ``handle.method.bind(...)`` gives: a node, or a tuple of nodes for a method with several return values."""
    handle, name = method._handle, method._name
    others = {PARENT_CLASS_NODE_KEY: handle, PREV_CLASS_METHOD_CALL_KEY: None}
    node = ClassMethodNode(name, args, kwargs, options, others, method, num_returns)
    if num_returns <= 1:
        return node
    return tuple(output_node(f"return_idx_{index}", node, index) for index in range(num_returns))


def output_node(name: str, call: ClassMethodNode, index: int) -> ClassMethodNode:
    """The node of one of a call's values."""
    parent = call._bound_other_args_to_resolve[PARENT_CLASS_NODE_KEY]
    return ClassMethodNode(
        name, (call, index), {}, {}, {IS_CLASS_METHOD_OUTPUT_KEY: True, PARENT_CLASS_NODE_KEY: parent}
    )
