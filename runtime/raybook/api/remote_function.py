"""RemoteFunction: a function that runs elsewhere. What ``@remote`` makes of a function.

It knows its function, its options, and the records both become, computed once: a call checks its arguments against the
signature and hands everything to the engine. The function is pickled at its first call in a session, not at its
definition, so that it may refer to what is defined below it (as in Ray).
Invariant: one export for each function and session, shared by everything ``.options`` made of it.
"""

from __future__ import annotations

import functools
import inspect
import warnings
from collections.abc import Callable
from typing import Any, NoReturn

from raybook.api import strategies
from raybook.api.binding import bind_function
from raybook.api.context import WORKER, current_engine, current_runtime
from raybook.api.environment_options import with_environment
from raybook.api.option_checks import check_streams
from raybook.api.options import TASK_OPTIONS, check_call_site_options, check_options, into_group, task_options
from raybook.api.returns import shape_returns
from raybook.api.signature import CallSignature
from raybook.base.deprecations import DYNAMIC_RETURNS, RayDeprecationWarning
from raybook.base.names import short
from raybook.engines.engine import Engine, TaskOptions
from raybook.protocol import functions


class Export:
    """The exported form of one function or class in the current session."""

    __slots__ = ("blob", "engine", "target")

    def __init__(self, target: Callable[..., Any]) -> None:
        self.target = target
        self.engine: Engine | None = None
        self.blob: Any = None

    def make(self, engine: Engine) -> Any:
        """Pickle it for this session. TypeError (naming the path) when it captures something that cannot be pickled,
        ValueError when it is too large. Cost: 50 µs and up, once."""
        blob = functions.export(self.target, engine.serialization)
        if blob.warning:
            warnings.warn(blob.warning, stacklevel=4)
        self.blob = blob
        self.engine = engine
        watcher = current_runtime.code_watcher
        if watcher is not None:
            watcher.exported(self.target, blob.key, blob.size)
        return blob


class RemoteFunction:
    """Call it with ``.remote(...)``; change its options for some calls with ``.options(...)``."""

    def __init__(self, function: Callable[..., Any], options: dict[str, Any]) -> None:
        check_options(options, TASK_OPTIONS, "remote functions")
        check_streams(options, inspect.isgeneratorfunction(function))
        _warn_of_deprecated(options)
        if inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function):
            raise ValueError(
                f"'async def' should not be used for remote tasks: {function.__qualname__}() is one. Wrap it in a "
                "function that calls asyncio.run(...), or make it a method of an actor."
            )
        self._bind(function, options, Export(function))
        functools.update_wrapper(self, function)

    def _bind(self, function: Callable[..., Any], options: dict[str, Any], export: Export) -> None:
        self._function = function
        self._options = with_environment(options)
        self._export = export
        self._task_options: TaskOptions | None = None
        self._in_groups: dict[bytes, TaskOptions] = {}

    def _prepare(self) -> TaskOptions:
        """Compute what every call needs. Not in ``__setstate__``: a self-referring function arrives in pieces."""
        function = self._function
        prepared = task_options(self._options, short_name(function), inspect.isgeneratorfunction(function))
        signature = CallSignature(function)
        self._check = signature.check
        self._takes_nothing = signature.takes_nothing
        self._num_returns = prepared.num_returns
        self._inherits = strategies.inherits(self._options)
        self._task_options = prepared
        return prepared

    def remote(self, /, *args: Any, **kwargs: Any) -> Any:
        """Queue one call and return its ObjectRef at once (a list of them for num_returns > 1, None for 0, an
        ObjectRefGenerator for a generator function).

        TypeError for arguments that do not fit the signature or cannot be pickled. Cost: 1 µs above the engine's.
        """
        engine = current_runtime.engine or current_engine()
        options = self._task_options or self._prepare()
        if self._inherits and current_runtime.mode == WORKER:
            options = self._with_parent(options)
        if args or kwargs or not self._takes_nothing:
            self._check(args, kwargs)
        export = self._export
        blob = export.blob if export.engine is engine else export.make(engine)
        refs = engine.submit_task(blob, args, kwargs, options)
        if self._num_returns == 1:
            return refs[0]
        return shape_returns(refs, self._num_returns)

    def _remote(self, args: Any = None, kwargs: Any = None, **options: Any) -> Any:
        """The call with its arguments in containers, and options beside them: how much code written for Ray has it."""
        return (self.options(**options) if options else self).remote(*(args or ()), **(kwargs or {}))

    def _with_parent(self, options: TaskOptions) -> TaskOptions:
        """The options inside a task whose placement group captures its children: then in that group."""
        target = strategies.captured()
        if target is None:
            return options
        moved = self._in_groups.get(target.group_id)
        if moved is None:
            moved = self._in_groups[target.group_id] = into_group(options, target)
        return moved

    def options(self, **options: Any) -> RemoteFunction:
        """The same function with other options: ``f.options(num_cpus=2).remote(x)``. ValueError or TypeError for
        options that are wrong. Cost: 10 µs; keep the result when you use it in a loop."""
        check_call_site_options(options, TASK_OPTIONS, "remote functions")
        check_streams(options, inspect.isgeneratorfunction(self._function))
        _warn_of_deprecated(options)
        changed = object.__new__(RemoteFunction)
        changed._bind(self._function, {**self._options, **options}, self._export)
        functools.update_wrapper(changed, self._function)
        return changed

    def bind(self, /, *args: Any, **kwargs: Any) -> Any:
        """A node of a graph (``raybook.dag``) that calls this function when the graph runs; arguments may be nodes.
        TypeError for arguments that do not fit the signature."""
        if self._task_options is None:
            self._prepare()
        self._check(args, kwargs)
        return bind_function(self, args, kwargs)

    def __call__(self, /, *args: Any, **kwargs: Any) -> NoReturn:
        name = self._function.__name__
        raise TypeError(
            f"Remote functions cannot be called directly. Instead of running '{name}()', try '{name}.remote()'. "
            f"The plain function is {name}._function."
        )

    def __repr__(self) -> str:
        return f"RemoteFunction({self._function.__module__}.{self._function.__qualname__})"

    def __getstate__(self) -> dict[str, Any]:
        return {"function": self._function, "options": self._options}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self._bind(state["function"], state["options"], Export(state["function"]))


def _warn_of_deprecated(options: dict[str, Any]) -> None:
    if options.get("num_returns") == "dynamic":
        warnings.warn(DYNAMIC_RETURNS, RayDeprecationWarning, stacklevel=4)


def short_name(target: Any) -> str:
    """The name that panels and tracebacks show: without the function it was defined in."""
    return short(target.__qualname__)
