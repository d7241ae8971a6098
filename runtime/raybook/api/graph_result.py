"""Graph result: what ``get`` accepts beside an ObjectRef: a result of a compiled graph, which no owner knows."""

from __future__ import annotations

from typing import Any, NoReturn


class GraphResult:
    """One execution's result. ``raybook.dag.CompiledDAGRef`` is the only one there is."""

    __never_pickled__ = True

    def get(self, timeout: float | None = None) -> Any:
        """The value, once; see there."""
        raise NotImplementedError

    def __reduce__(self) -> NoReturn:
        name = type(self).__name__
        raise ValueError(
            f"{name} cannot be pickled. A {name} cannot be used as Ray task/actor argument either: it can be read only "
            "here, and once. Pass raybook.get(ref), or make the call a node of the graph."
        )


def get_results(refs: list[Any], timeout: float | None) -> list[Any]:
    """The values of a list of graph results. ValueError when something else is among them."""
    if not all(isinstance(ref, GraphResult) for ref in refs):
        raise ValueError(
            "Invalid type of object refs: raybook.get takes a list of CompiledDAGRefs if there is any CompiledDAGRef "
            "within it. Get the two kinds apart."
        )
    return [ref.get(timeout=timeout) for ref in refs]
