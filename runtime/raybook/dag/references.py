"""References to results of a compiled graph. Each is read once, here, by ``raybook.get`` or ``await``."""

from __future__ import annotations

from collections.abc import Generator
from typing import TYPE_CHECKING, Any, NoReturn

from raybook.api.graph_result import GraphResult

if TYPE_CHECKING:
    from raybook.dag.compiled_dag_node import CompiledDAG


class _Reference(GraphResult):
    """What both kinds share. position: which of several results, None for the only one."""

    _is_read = True
    """Until it is whole: an interrupt may come in between."""

    def __init__(self, dag: CompiledDAG, execution: int, position: int | None) -> None:
        self._dag = dag
        self._execution_index = execution
        self._channel_index = position
        self._is_read = False

    def __del__(self) -> None:
        if not self._is_read:
            self._dag._dropped.append((self._execution_index, self._channel_index or 0))

    def __str__(self) -> str:
        return (
            f"{type(self).__name__}({self._dag.get_id()}, execution_index={self._execution_index}, "
            f"channel_index={self._channel_index})"
        )

    __repr__ = __str__

    def __copy__(self) -> NoReturn:
        raise ValueError(f"{type(self).__name__} cannot be copied.")

    def __deepcopy__(self, memo: dict) -> NoReturn:
        raise ValueError(f"{type(self).__name__} cannot be deep copied.")


class CompiledDAGRef(_Reference):
    """What ``CompiledDAG.execute`` returns: ``raybook.get(ref)`` gives the value."""

    def get(self, timeout: float | None = None) -> Any:
        """The value, or what the execution raised; waits for it. timeout: seconds, -1 for no end, None for
        ``DAGContext.get_timeout``. Arrays are read-only views of shared memory, valid as long as they are kept.

        RayChannelTimeoutError; ActorDiedError when an actor of the graph died; RayChannelError when the graph was torn
        down; RayCgraphCapacityExceeded when too many results before this one would have to be kept; ValueError the
        second time.
        """
        if self._is_read:
            raise ValueError("ray.get() can only be called once on a CompiledDAGRef, and it was already called.")
        self._is_read = True
        return self._dag._get(self._execution_index, self._channel_index or 0, timeout)


class CompiledDAGFuture(_Reference):
    """What ``CompiledDAG.execute_async`` gives: ``await`` it, once."""

    def get(self, timeout: float | None = None) -> Any:
        """ValueError: this one is awaited."""
        raise ValueError("A CompiledDAGFuture is awaited: `await future`. raybook.get takes what execute() returns.")

    def __await__(self) -> Generator[Any, None, Any]:
        if self._is_read:
            raise ValueError("CompiledDAGFuture can only be awaited upon once, and it has already been awaited upon.")
        self._is_read = True
        return (yield from self._dag._get_async(self._execution_index, self._channel_index or 0).__await__())
