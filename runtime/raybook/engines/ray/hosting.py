"""Hosting: raybook's functions and actor classes as what Ray runs.

A function travels inside a function of its own, exported to Ray once for each; a class is a subclass of the user's. Both
make raybook's verbs work before user code runs. Knows nothing of options.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from typing import Any

import ray

from raybook.base.errors import ActorExit
from raybook.base.task_context import CURRENT_TASK, ActorContext
from raybook.engines.engine import ActorHandleState
from raybook.engines.ray.contexts import RayActorContext, RayTaskContext
from raybook.engines.ray.links import WORKER_MODULE, Link
from raybook.protocol import functions


def hosted_function(payload: bytes, key: bytes, name: str, is_generator: bool, max_calls: int) -> Any:
    """Ray's remote function that runs an exported one."""
    if is_generator:

        def run(*args: Any, **kwargs: Any) -> Any:
            # Not `yield from`: Ray sends values into what it iterates, which only a generator takes.
            for item in run_function(key, payload, name, args, kwargs):  # noqa: UP028
                yield item

    else:

        def run(*args: Any, **kwargs: Any) -> Any:
            return run_function(key, payload, name, args, kwargs)

    run.__name__ = run.__qualname__ = name.rpartition(".")[2] or name
    run.__module__ = "raybook_task"
    return ray.remote(max_calls=max_calls)(run) if max_calls else ray.remote(run)


def run_function(key: bytes, payload: bytes, name: str, args: tuple, kwargs: dict) -> Any:
    """In a Ray worker: the function, in raybook's context."""
    function = load_function(key, payload)
    context = ray.get_runtime_context()
    token = CURRENT_TASK.set(RayTaskContext(bytes.fromhex(context.get_task_id() or ""), name))
    try:
        return function(*args, **kwargs)
    finally:
        CURRENT_TASK.reset(token)


@functools.lru_cache(maxsize=1024)
def load_function(key: bytes, payload: bytes) -> Any:
    """Once for each function and worker."""
    import_module(WORKER_MODULE).ensure_engine()
    return functions.load(payload)


def hosted_class(payload: bytes) -> type:
    """The user's class, for Ray: verbs work from ``__init__`` on, and ``exit_actor`` ends the actor."""
    user_class = functions.load(payload)

    class Hosted(user_class):  # type: ignore[misc, valid-type]
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            import_module(WORKER_MODULE).ensure_engine()
            with _as_actor(user_class):
                super().__init__(*args, **kwargs)

    for name, method in inspect.getmembers(user_class, inspect.isfunction):
        if not name.startswith("__"):
            setattr(Hosted, name, _in_context(method, user_class))
    Hosted.__name__ = Hosted.__qualname__ = user_class.__name__
    Hosted.__module__ = "raybook_actor"
    return Hosted


def _in_context(method: Callable[..., Any], user_class: type) -> Callable[..., Any]:
    """The method, knowing its actor, and ending it where it asks for that."""
    if inspect.isasyncgenfunction(method):
        return method
    if inspect.isgeneratorfunction(method):

        @functools.wraps(method)
        def items(self: Any, *args: Any, **kwargs: Any) -> Any:
            for item in method(self, *args, **kwargs):  # noqa: UP028 - as in `hosted_function`.
                yield item

        return items
    if inspect.iscoroutinefunction(method):

        @functools.wraps(method)
        async def call_async(self: Any, *args: Any, **kwargs: Any) -> Any:
            with _as_actor(user_class):
                return await method(self, *args, **kwargs)

        return call_async

    @functools.wraps(method)
    def call(self: Any, *args: Any, **kwargs: Any) -> Any:
        with _as_actor(user_class):
            return method(self, *args, **kwargs)

    return call


@contextmanager
def _as_actor(user_class: type) -> Iterator[None]:
    context = ray.get_runtime_context()
    token = CURRENT_TASK.set(
        RayTaskContext(bytes.fromhex(context.get_task_id() or ""), user_class.__name__, actor=_this_actor(user_class))
    )
    try:
        yield
    except ActorExit:
        ray.actor.exit_actor()
    finally:
        CURRENT_TASK.reset(token)


@functools.lru_cache(maxsize=1)
def _this_actor(user_class: type) -> ActorContext:
    """A process is one actor."""
    context = ray.get_runtime_context()
    actor_id = bytes.fromhex(context.get_actor_id())
    methods = {name: 1 for name, _ in inspect.getmembers(user_class, inspect.isfunction)}
    link = Link(context.current_actor)
    state = ActorHandleState(actor_id, link, user_class.__qualname__, methods)
    name = context.get_actor_name() or ""
    return RayActorContext(actor_id, user_class.__name__, name, context.namespace, state=state)
