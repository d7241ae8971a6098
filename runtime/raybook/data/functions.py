"""Users' functions: a function or a callable class with what it is to be called with; made once a process, called often.

Knows nothing of blocks. Coroutine functions run on an event loop of their own thread.
"""

from __future__ import annotations

import asyncio
import inspect
import threading
from collections.abc import Callable, Coroutine, Iterator
from typing import Any

ASYNC_CALLS_MAX = 64
"""Coroutines of one block that run at a time."""


class UserFunction:
    """fn: a function, or a class that is made with the constructor arguments. The others are passed to each call after
    the row or batch."""

    def __init__(
        self,
        fn: Any,
        fn_args: Any = None,
        fn_kwargs: dict[str, Any] | None = None,
        fn_constructor_args: Any = None,
        fn_constructor_kwargs: dict[str, Any] | None = None,
    ) -> None:
        if not callable(fn):
            raise TypeError(f"The function must be callable, and {fn!r} is not.")
        self.fn = fn
        self.args = tuple(fn_args or ())
        self.kwargs = dict(fn_kwargs or {})
        self.constructor_args = tuple(fn_constructor_args or ())
        self.constructor_kwargs = dict(fn_constructor_kwargs or {})

    @property
    def is_class(self) -> bool:
        return inspect.isclass(self.fn)

    @property
    def name(self) -> str:
        return name_of(self.fn)

    def make(self) -> Callable[[Any], Any]:
        """What is called with a row or batch. Makes the class if it is one."""
        fn = self.fn(*self.constructor_args, **self.constructor_kwargs) if self.is_class else self.fn
        if self.is_class and not callable(fn):
            raise TypeError(f"The class {self.fn.__name__} must have a method __call__: that is what gets the data.")
        if self.args or self.kwargs:
            args, kwargs = self.args, self.kwargs
            return _Called(fn, args, kwargs)
        return fn


class _Called:
    def __init__(self, fn: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self.fn, self.args, self.kwargs = fn, args, kwargs

    def __call__(self, value: Any) -> Any:
        return self.fn(value, *self.args, **self.kwargs)


def name_of(fn: Any) -> str:
    """What a plan calls it."""
    inner = fn
    while hasattr(inner, "func"):
        inner = inner.func
    return getattr(inner, "__name__", None) or type(inner).__name__


def is_async(fn: Any) -> bool:
    """Whether calling it gives a coroutine or an asynchronous generator."""
    if isinstance(fn, _Called):
        fn = fn.fn
    if inspect.iscoroutinefunction(fn) or inspect.isasyncgenfunction(fn):
        return True
    call = getattr(type(fn), "__call__", None)  # noqa: B004 - asked of the class, where its kind is written.
    return inspect.iscoroutinefunction(call) or inspect.isasyncgenfunction(call)


class AsyncRunner:
    """Calls an asynchronous function with many values at once, and gives the results in order of the values."""

    def __init__(self, fn: Callable[[Any], Any]) -> None:
        self._fn = fn
        self._loop = asyncio.new_event_loop()
        threading.Thread(target=self._loop.run_forever, daemon=True, name="raybook-data-async").start()

    def results(self, values: list[Any]) -> Iterator[list[Any]]:
        """A list of results for each value: one of a coroutine, any number of an asynchronous generator."""

        async def one(gate: asyncio.Semaphore, value: Any) -> list[Any]:
            async with gate:
                made = self._fn(value)
                if hasattr(made, "__aiter__"):
                    return [item async for item in made]
                return [await made if isinstance(made, Coroutine) or inspect.isawaitable(made) else made]

        async def every() -> list[list[Any]]:
            gate = asyncio.Semaphore(ASYNC_CALLS_MAX)
            return await asyncio.gather(*(one(gate, value) for value in values))

        yield from asyncio.run_coroutine_threadsafe(every(), self._loop).result()
