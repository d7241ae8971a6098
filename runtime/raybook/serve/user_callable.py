"""User callable: the deployment's function, or the instance of its class, and how its methods are run.

async methods run on the replica's loop, others in threads (as many as requests may run), so that code that blocks holds up
nobody else; generators are stepped through in the same two ways. Knows nothing of HTTP or of actors.
"""

from __future__ import annotations

import asyncio
import contextvars
import inspect
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from raybook.serve.exceptions import RayServeException

ASYNC, SYNC = "async", "sync"
_END = object()


class UserCallable:
    """definition: a function or class; args and kwargs for its constructor."""

    def __init__(self, definition: Any, args: tuple, kwargs: dict[str, Any], threads: int) -> None:
        self._definition = definition
        self._args = args
        self._kwargs = kwargs
        self._is_function = inspect.isfunction(definition) or not inspect.isclass(definition)
        self._methods: dict[str, tuple[str, Callable[..., Any]]] = {}
        self._pool: ThreadPoolExecutor | None = None
        self._threads = threads
        self.instance: Any = None

    async def construct(self) -> None:
        """Run the constructor, on the loop. Whatever it raises comes out."""
        if self._is_function:
            self.instance = self._definition
            return
        cls = self._definition
        if inspect.iscoroutinefunction(cls.__init__):
            instance = cls.__new__(cls)
            await instance.__init__(*self._args, **self._kwargs)
        else:
            instance = cls(*self._args, **self._kwargs)
        self.instance = instance

    def resize(self, threads: int) -> None:
        """How many blocking requests may run at once."""
        if threads != self._threads:
            self._threads, self._pool = threads, None

    def method(self, name: str) -> tuple[str, Callable[..., Any]]:
        """(ASYNC or SYNC, the bound method). RayServeException for one that there is not."""
        found = self._methods.get(name)
        if found is None:
            function = self._find(name)
            found = self._methods[name] = (_kind(function), function)
        return found

    def _find(self, name: str) -> Callable[..., Any]:
        if self._is_function:
            if name == "__call__":
                return self.instance
            raise RayServeException(
                f"Tried to call a method '{name}' that does not exist. Available methods: ['__call__']."
            )
        found = getattr(self.instance, name, None)
        if found is None or not callable(found):
            methods = [
                each
                for each in dir(self.instance)
                if (not each.startswith("__") or each == "__call__") and callable(getattr(self.instance, each, None))
            ]
            raise RayServeException(
                f"Tried to call a method '{name}' that does not exist. Available methods: {methods}."
            )
        return found

    def has(self, name: str) -> bool:
        """Whether the class has such a method."""
        return not self._is_function and callable(getattr(self.instance, name, None))

    async def call(self, name: str, args: tuple, kwargs: dict[str, Any]) -> Any:
        """One call. A generator comes back as it is, not begun."""
        kind, function = self.method(name)
        if kind is ASYNC:
            result = function(*args, **kwargs)
            return await result if inspect.isawaitable(result) else result
        result = await self.in_thread(function, args, kwargs)
        return await result if inspect.isawaitable(result) else result

    async def in_thread(self, function: Callable[..., Any], args: tuple, kwargs: dict[str, Any]) -> Any:
        """Run blocking code beside the loop, in this task's context."""
        pool = self._pool
        if pool is None:
            pool = self._pool = ThreadPoolExecutor(max(1, min(self._threads, 512)), "raybook-serve-sync")
        context = contextvars.copy_context()
        return await asyncio.get_running_loop().run_in_executor(pool, lambda: context.run(function, *args, **kwargs))

    async def items(self, generator: Any) -> AsyncIterator[Any]:
        """The items of a generator of either kind; it is closed whatever happens."""
        if hasattr(generator, "__anext__"):
            try:
                async for item in generator:
                    yield item
            finally:
                close = getattr(generator, "aclose", None)
                if close is not None:
                    await close()
            return
        try:
            while True:
                item = await self.in_thread(next, (generator, _END), {})
                if item is _END:
                    return
                yield item
        finally:
            close = getattr(generator, "close", None)
            if close is not None:
                try:
                    close()
                except ValueError:
                    pass  # It is running in its thread, and ends at its next item.


def is_stream(value: Any) -> bool:
    """Whether a value is a generator, of either kind."""
    return inspect.isgenerator(value) or inspect.isasyncgen(value)


def _kind(function: Callable[..., Any]) -> str:
    call = function if inspect.isroutine(function) else getattr(function, "__call__", function)  # noqa: B004
    for each in (function, call):
        if inspect.iscoroutinefunction(each) or inspect.isasyncgenfunction(each) or inspect.isgeneratorfunction(each):
            return ASYNC  # Making a generator runs none of its code.
    return SYNC
