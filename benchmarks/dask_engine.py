"""Dask engine: Ray's words over Dask's distributed scheduler, as far as Dask has what they mean.

The rows are written in Ray's words; this translates them one for one, so that what is measured is Dask: ``remote`` to
``Client.submit`` (not pure: the same call runs again), ``put`` to ``scatter``, actors to Dask's actors. What Dask has no
word for raises NotYet. A LocalCluster of one process a core with one thread each, as raybook and Ray have it.
"""

from __future__ import annotations

import inspect
import logging
from collections.abc import Callable, Sequence
from typing import Any

from dask import config
from distributed import Client, LocalCluster
from distributed.actor import Actor
from microbench.rows import NotYet

_state: dict[str, Any] = {}
SCATTERED_BYTES_MAX = 8 << 20


def init(num_cpus: int) -> None:
    """Start workers without the dashboard, which only costs."""
    config.set({"distributed.worker.daemon": True, "distributed.admin.tick.limit": "1h"})
    cluster = LocalCluster(
        n_workers=num_cpus, threads_per_worker=1, processes=True, dashboard_address=None, silence_logs=logging.ERROR
    )
    _state["client"] = Client(cluster)
    _state["cluster"] = cluster


def is_initialized() -> bool:
    return "client" in _state


def shutdown() -> None:
    for name in ("client", "cluster"):
        if name in _state:
            _state.pop(name).close()


def _client() -> Client:
    return _state["client"]


class _Function:
    def __init__(self, function: Callable[..., Any]) -> None:
        self._function = function

    def remote(self, *args: Any) -> Any:
        if any(isinstance(part, _Handle) for arg in args if isinstance(arg, list) for part in arg):
            raise NotYet(
                "a Dask actor is called from the client or from its worker's tasks, not through a passed handle"
            )
        if any(isinstance(cell.cell_contents, _Function) for cell in self._function.__closure__ or ()):
            raise NotYet("tasks that submit tasks and wait for them hold their worker's thread in Dask")
        return _client().submit(self._function, *args, pure=False)


class _Method:
    def __init__(self, method: Callable[..., Any]) -> None:
        self._method = method

    def remote(self, *args: Any) -> Any:
        return self._method(*args)


class _Handle:
    def __init__(self, actor: Actor) -> None:
        self._actor = actor

    def __getattr__(self, name: str) -> _Method:
        return _Method(getattr(self._actor, name))


class _Class:
    def __init__(self, its_class: type) -> None:
        if any(inspect.iscoroutinefunction(member) for member in vars(its_class).values()):
            raise NotYet("Dask's actors run one method at a time, coroutines included")
        self._class = its_class

    def remote(self, *args: Any) -> _Handle:
        return _Handle(_client().submit(self._class, *args, actor=True, pure=False).result())


def remote(target: Any = None, **options: Any) -> Any:
    if target is None:
        return lambda later: remote(later, **options)
    return _Class(target) if isinstance(target, type) else _Function(target)


def put(value: Any) -> Any:
    if getattr(value, "nbytes", 0) > SCATTERED_BYTES_MAX:
        raise NotYet("there is no shared store: scatter sends a value to a worker through a socket")
    return _client().scatter(value, hash=False)


def get(refs: Any) -> Any:
    if not isinstance(refs, list):
        return refs.result()
    if refs and not hasattr(refs[0], "key"):
        return [ref.result() for ref in refs]
    return _client().gather(refs)


def wait(refs: Sequence[Any], num_returns: int = 1, timeout: float | None = None) -> tuple[list[Any], list[Any]]:
    raise NotYet("distributed.wait looks at every future at each call; as_completed is another shape of program")


def kill(handle: _Handle) -> None:
    """Dask's actors go with their last reference."""
