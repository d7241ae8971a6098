"""ActorClass: a class whose instances live in processes of their own. What ``@remote`` makes of a class.

It knows the class, its methods and options; it makes handles and knows nothing of the actors behind them.
``@method`` and ``exit_actor`` are here because they belong to writing an actor's class.
Invariant: one export for each class and session, shared by everything ``.options`` made of it.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, NoReturn

from raybook.api import strategies
from raybook.api.actor_handle import ActorHandle
from raybook.api.binding import bind_class
from raybook.api.context import WORKER, current_engine, current_runtime
from raybook.api.environment_options import with_environment
from raybook.api.option_checks import check_streams
from raybook.api.options import (
    ACTOR_OPTIONS,
    METHOD_OPTIONS,
    actor_into_group,
    actor_options,
    check_call_site_options,
    check_options,
    method_defaults,
    num_returns_of,
)
from raybook.api.remote_function import Export
from raybook.api.signature import CallSignature
from raybook.base.errors import ActorExit
from raybook.base.task_context import CURRENT_TASK
from raybook.engines.engine import ActorOptions, MethodDefaults

_MAKING = frozenset({"__init__", "__new__", "__del__", "__init_subclass__", "__class_getitem__"})
METHOD_MARK = "__raybook_method__"
"""Attribute that ``@method`` leaves on a function: its options."""


class ActorClassInheritanceException(TypeError):
    """A class names an actor class among its bases."""


class BadMethodOptions(ValueError, AssertionError):
    """``@method`` was given what it does not take. Ray asserts this, and programs expect either."""


class ActorClass:
    """Make actors of it with ``.remote(...)``; change its options for some with ``.options(...)``."""

    def __init__(self, cls: type, options: dict[str, Any]) -> None:
        check_options(options, ACTOR_OPTIONS, "actors")
        self._bind(cls, options, Export(cls))
        self._prepare()

    def _bind(self, cls: type, options: dict[str, Any], export: Export) -> None:
        self._cls = cls
        self._options = with_environment(options)
        self._export = export
        self._actor_options: ActorOptions | None = None
        self.__name__ = cls.__name__
        self.__qualname__ = cls.__qualname__
        self.__module__ = cls.__module__
        self.__doc__ = cls.__doc__

    def _prepare(self) -> ActorOptions:
        """Compute what every creation needs. Not in ``__setstate__``: a self-referring class arrives in pieces."""
        cls = self._cls
        methods: dict[str, int] = {}
        defaults: dict[str, MethodDefaults] = {}
        signatures: dict[str, CallSignature] = {}
        is_async = inspect.iscoroutinefunction(inspect.getattr_static(cls, "__init__"))
        for name, function, is_static in _methods_of(cls):
            declared = getattr(function, METHOD_MARK, {})
            methods[name] = _num_returns(function, declared)
            if declared:
                defaults[name] = method_defaults(declared)
            is_async |= inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function)
            signatures[name] = CallSignature(function, skip=0 if is_static else 1)
        prepared = actor_options(self._options, cls.__qualname__, methods, defaults, is_async)
        self._signatures = signatures
        self._check_init = _init_check(cls)
        self._actor_options = prepared
        return prepared

    def remote(self, *args: Any, **kwargs: Any) -> ActorHandle:
        """Create an actor and return its handle at once (after a round trip when it has a name).

        TypeError for arguments that do not fit ``__init__`` or cannot be pickled; ValueError when the name is taken.
        """
        engine = current_engine()
        options = self._actor_options or self._prepare()
        if current_runtime.mode == WORKER and strategies.inherits(self._options):
            target = strategies.captured()
            if target is not None:
                options = actor_into_group(options, target)
        self._check_init(args, kwargs)
        export = self._export
        blob = export.blob if export.engine is engine else export.make(engine)
        state = engine.create_actor(blob, args, kwargs, options)
        watcher = current_runtime.code_watcher
        if watcher is not None and not state.is_weak:  # Else it was found by its name: somebody else made it.
            watcher.created(blob.key, state.actor_id)
        return ActorHandle(state, engine, self._signatures)

    def _remote(self, args: Any = None, kwargs: Any = None, **options: Any) -> ActorHandle:
        """The creation with its arguments in containers, and options beside them: how much code written for Ray has
        it."""
        return (self.options(**options) if options else self).remote(*(args or ()), **(kwargs or {}))

    def __class_getitem__(cls, item: object) -> type:
        # ``ActorClass[Counter]`` in annotations.
        return cls

    def options(self, **options: Any) -> ActorClass:
        """The same class with other options: ``Cls.options(name="x").remote()``."""
        check_call_site_options(options, ACTOR_OPTIONS, "actors")
        changed = object.__new__(ActorClass)
        changed._bind(self._cls, {**self._options, **options}, self._export)
        changed._prepare()
        return changed

    @property
    def __ray_actor_class__(self) -> type:
        """The plain class, for those who inherit from it or test it without a cluster."""
        return self._cls

    @property
    def __ray_metadata__(self) -> SimpleNamespace:
        """Ray's name for what libraries look up: ``class_name`` and ``modified_class``, the plain class."""
        return SimpleNamespace(class_name=self._cls.__qualname__, modified_class=self._cls)

    def __getattr__(self, name: str) -> Any:
        """Class attributes and static methods of the plain class."""
        cls = self.__dict__.get("_cls")
        if cls is None or (name.startswith("__") and name.endswith("__")):
            raise AttributeError(name)
        try:
            return getattr(cls, name)
        except AttributeError:
            raise AttributeError(f"The actor class {cls.__qualname__!r} has no attribute {name!r}.") from None

    def bind(self, /, *args: Any, **kwargs: Any) -> Any:
        """A node of a graph (``raybook.dag``) that creates an actor each time the graph runs; its methods are attributes
        with ``.bind``. TypeError for arguments that do not fit ``__init__``."""
        if self._actor_options is None:
            self._prepare()
        self._check_init(args, kwargs)
        return bind_class(self, args, kwargs)

    def __call__(self, *args: Any, **kwargs: Any) -> NoReturn:
        raise TypeError(
            f"Actors cannot be instantiated directly: {self.__name__!r} cannot be called directly. Instead of running "
            f"'{self.__name__}()', try '{self.__name__}.remote()'."
        )

    def __mro_entries__(self, bases: tuple) -> NoReturn:
        raise ActorClassInheritanceException(
            f"Inheriting from the actor class {self.__name__!r} is not supported. Inherit from the plain class, and "
            "decorate the new one with @raybook.remote."
        )

    def __repr__(self) -> str:
        return f"ActorClass({self._cls.__module__}.{self._cls.__qualname__})"

    def __getstate__(self) -> dict[str, Any]:
        return {"cls": self._cls, "options": self._options}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self._bind(state["cls"], state["options"], Export(state["cls"]))


def method(*args: Any, **options: Any) -> Any:
    """Options of one method of an actor class: ``@raybook.method(num_returns=2)``, or plain ``@raybook.method``.
    ValueError for unknown ones, and for num_returns="streaming" on what is no generator."""
    if len(args) == 1 and callable(args[0]) and not options:
        return args[0]
    if args:
        raise BadMethodOptions(
            "The @raybook.method decorator must be applied using no arguments or keyword arguments only, for example "
            "@raybook.method(num_returns=2)."
        )
    unknown = next((name for name in options if name not in METHOD_OPTIONS), None)
    if unknown is not None:
        raise BadMethodOptions(
            f"Unexpected keyword argument to @raybook.method: {unknown!r}. The supported keyword arguments are "
            f"{sorted(METHOD_OPTIONS)}."
        )
    check_options(options, METHOD_OPTIONS, "@raybook.method")
    method_defaults(options)

    def mark(function: Callable[..., Any]) -> Callable[..., Any]:
        check_streams(options, _is_generator(function))
        setattr(function, METHOD_MARK, options)
        return function

    return mark


def exit_actor() -> NoReturn:
    """End the actor this runs in, on purpose: calls that wait fail, nothing is restarted. Never returns.
    TypeError outside an actor."""
    context = CURRENT_TASK.get()
    if context is None or context.actor is None:
        raise TypeError(
            "exit_actor API is called on a non-actor worker: it ends the actor whose method calls it, and no method runs "
            "in this process or thread."
        )
    raise ActorExit("exit_actor() was called")


def _methods_of(cls: type) -> list[tuple[str, Callable[..., Any], bool]]:
    """(name, function, whether it takes no self) of every method. Of dunder names those that the user wrote, but for
    how an instance is made."""
    found = []
    for name in dir(cls):
        static = inspect.getattr_static(cls, name)
        if name.startswith("__") and name.endswith("__") and (name in _MAKING or not inspect.isfunction(static)):
            continue
        if isinstance(static, staticmethod):
            found.append((name, static.__func__, True))
        elif isinstance(static, classmethod):
            found.append((name, static.__func__, False))
        elif inspect.isroutine(static):
            found.append((name, static, False))
    return found


def _num_returns(function: Callable[..., Any], declared: dict[str, Any]) -> int:
    return num_returns_of(declared.get("num_returns"), _is_generator(function))


def _is_generator(function: Callable[..., Any]) -> bool:
    return inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function)


def _init_check(cls: type) -> Callable[[tuple, dict], None]:
    for name in ("__init__", "__new__"):
        function = getattr(cls, name)
        if function is not getattr(object, name):
            return CallSignature(function, skip=1).check
    return _takes_nothing


def _takes_nothing(args: tuple, kwargs: dict) -> None:
    if args or kwargs:
        raise TypeError("too many positional arguments: the class has no __init__, so its actor takes none.")
