"""ipyparallel engine: Ray's words over ipyparallel's load-balanced view, as far as ipyparallel has what they mean.

``remote`` is ``apply_async``: one message to the scheduler, one to an engine, one back. There are no references that a
task could take, no store and no actors; rows that need them raise NotYet. One engine a core.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Any

import ipyparallel
from microbench.rows import NotYet

_state: dict[str, Any] = {}


def init(num_cpus: int) -> None:
    cluster = ipyparallel.Cluster(n=num_cpus, log_level=logging.ERROR)
    client = cluster.start_and_connect_sync(activate=False)
    client.wait_for_engines(num_cpus)
    # A closure by value, as everywhere else.
    client[:].use_cloudpickle().get()
    _state.update(cluster=cluster, client=client, view=client.load_balanced_view())


def is_initialized() -> bool:
    return "view" in _state


def shutdown() -> None:
    if "cluster" in _state:
        _state["client"].close()
        _state["cluster"].stop_cluster_sync()
        _state.clear()


class _Function:
    def __init__(self, function: Callable[..., Any]) -> None:
        self._function = function

    def remote(self, *args: Any) -> Any:
        if any(isinstance(arg, ipyparallel.AsyncResult) for arg in args):
            raise NotYet("a task cannot take the result of another one that is not there yet")
        if any(isinstance(cell.cell_contents, _Function) for cell in self._function.__closure__ or ()):
            raise NotYet("engines do not submit tasks")
        return _state["view"].apply_async(self._function, *args)


def remote(target: Any = None, **options: Any) -> Any:
    if target is None:
        return lambda later: remote(later, **options)
    if isinstance(target, type):
        raise NotYet("there are no actors")
    return _Function(target)


def get(refs: Any) -> Any:
    return [ref.get() for ref in refs] if isinstance(refs, list) else refs.get()


def put(value: Any) -> Any:
    raise NotYet("there is no store")


def wait(refs: Sequence[Any], num_returns: int = 1, timeout: float | None = None) -> tuple[list[Any], list[Any]]:
    raise NotYet("waiting for the first of many polls each of them")


def kill(handle: Any) -> None:
    raise NotYet("there are no actors")
