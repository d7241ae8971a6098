"""Batching: ``@serve.batch`` gathers calls of one method into calls with lists.

A batch begins when it is full or when its first call has waited long enough; calls for different models (see
``multiplexed``) go into different batches. One queue an instance and event loop. Invariants: the results go to the calls
in order; a batch that raises fails all its calls with that error; a call that was cancelled is left out.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator, Callable
from functools import wraps
from inspect import isasyncgenfunction, iscoroutinefunction, signature
from typing import Any

from raybook.serve.context import RequestContext, batch_context, request_context
from raybook.serve.exceptions import RayServeException

_QUEUES = "__raybook_serve_batches__"
_ENDS = (StopIteration, StopAsyncIteration)
"""What a generator of batches yields, in place of a value, for a call that needs no more."""


class _Call:
    __slots__ = ("arguments", "context", "future", "since_s")

    def __init__(self, arguments: dict[str, Any], context: RequestContext, future: asyncio.Future[Any]) -> None:
        self.arguments = arguments
        self.context = context
        self.future = future
        self.since_s = time.monotonic()


class BatchSettings:
    """Of one decorated function; changed while it runs."""

    def __init__(self, size: int, wait_s: float, concurrent: int, size_fn: Callable[[list[Any]], int] | None) -> None:
        self.size = size
        self.wait_s = wait_s
        self.concurrent = concurrent
        self.size_fn = size_fn


class BatchQueue:
    """Of one instance (or function) on one loop."""

    def __init__(self, function: Callable[..., Any], instance: Any, settings: BatchSettings) -> None:
        self._function = function
        self._instance = instance
        self._settings = settings
        self._calls: deque[_Call] = deque()
        self._running: set[asyncio.Task[None]] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._loop = asyncio.get_running_loop()

    def put(self, call: _Call) -> None:
        """One more call."""
        self._calls.append(call)
        self.look()

    def look(self) -> None:
        """Begin what may begin."""
        settings = self._settings
        while self._calls and len(self._running) < settings.concurrent:
            batch = self._next_batch()
            oldest_s = time.monotonic() - self._calls[0].since_s
            is_cut = len(batch) < len(self._calls)
            if not (is_cut or self._is_full(batch)) and oldest_s < settings.wait_s:
                if self._timer is None:
                    self._timer = self._loop.call_later(settings.wait_s - oldest_s, self._time_is_up)
                return
            for _ in batch:
                self._calls.popleft()
            batch = [call for call in batch if not call.future.cancelled()]
            if batch:
                task = self._loop.create_task(self._run(batch))
                self._running.add(task)
                task.add_done_callback(self._ended)

    def _time_is_up(self) -> None:
        self._timer = None
        self.look()

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._running.discard(task)
        self.look()

    def _next_batch(self) -> list[_Call]:
        """The longest beginning of the line that may be one batch."""
        batch: list[_Call] = []
        model_id = self._calls[0].context.multiplexed_model_id
        for call in self._calls:
            if call.context.multiplexed_model_id != model_id:
                break
            if batch and self._size([*batch, call]) > self._settings.size:
                break
            batch.append(call)
            if self._is_full(batch):
                break
        return batch

    def _size(self, batch: list[_Call]) -> int:
        size_fn = self._settings.size_fn
        if size_fn is None:
            return len(batch)
        return size_fn([next(iter(call.arguments.values()), None) for call in batch])

    def _is_full(self, batch: list[_Call]) -> bool:
        return self._size(batch) >= self._settings.size

    async def _run(self, batch: list[_Call]) -> None:
        batch_context.set([call.context for call in batch])
        lists = {name: [call.arguments[name] for call in batch] for name in batch[0].arguments}
        first = () if self._instance is None else (self._instance,)
        try:
            if isasyncgenfunction(self._function):
                await self._spread(batch, self._function(*first, **lists))
                return
            results = await self._function(*first, **lists)
            _check_length(len(batch), results)
        except asyncio.CancelledError:
            for call in batch:
                call.future.cancel()
            raise
        except Exception as error:  # noqa: BLE001 - each caller gets it.
            for call in batch:
                if not call.future.done():
                    call.future.set_exception(error)
            return
        for call, result in zip(batch, results, strict=True):
            if not call.future.done():
                call.future.set_result(result)

    async def _spread(self, batch: list[_Call], generator: AsyncIterator[list[Any]]) -> None:
        """Items of a generator of lists to the calls' own streams: a chain of futures each."""
        futures: list[asyncio.Future[Any] | None] = [call.future for call in batch]
        try:
            async for results in generator:
                _check_length(len(batch), results)
                for at, result in enumerate(results):
                    future = futures[at]
                    if future is None:
                        continue
                    if result in _ENDS or isinstance(result, _ENDS):
                        _end(future)
                        futures[at] = None
                        continue
                    following: asyncio.Future[Any] = self._loop.create_future()
                    if not future.done():
                        future.set_result((result, following))
                    futures[at] = following
            for future in futures:
                if future is not None:
                    _end(future)
        except Exception as error:  # noqa: BLE001 - each caller gets it.
            for future in futures:
                if future is not None and not future.done():
                    future.set_exception(error)


def _end(future: asyncio.Future[Any]) -> None:
    if not future.done():
        future.set_result(None)


def _check_length(count: int, results: Any) -> None:
    try:
        length = len(results)
    except TypeError:
        raise RayServeException(
            f"A batched function must return a list with a result for each input, got {type(results).__name__}."
        ) from None
    if length != count:
        raise RayServeException(
            "Batched function doesn't preserve batch size. "
            f"The input list has length {count} but the returned list has length {length}."
        )


def batch(
    _func: Callable[..., Any] | None = None,
    /,
    max_batch_size: int = 10,
    batch_wait_timeout_s: float = 0.01,
    max_concurrent_batches: int = 1,
    batch_size_fn: Callable[[list[Any]], int] | None = None,
) -> Any:
    """Decorator of an ``async def`` method or function that takes lists and returns a list (or yields lists): callers
    pass and get single values, which are gathered into batches.

    max_batch_size: calls in one batch; batch_wait_timeout_s: how long the first may wait for others; both can be changed
    (``method.set_max_batch_size``, ``method.set_batch_wait_timeout_s``). max_concurrent_batches: how many run at once.
    batch_size_fn: the size of a list of inputs, where it is not their number. TypeError, ValueError.
    """
    if _func is not None:
        if not callable(_func):
            raise TypeError("@serve.batch can only be used to decorate functions or methods.")
        if not (iscoroutinefunction(_func) or isasyncgenfunction(_func)):
            raise TypeError("Functions decorated with @serve.batch must be 'async def'")
    _check_size(max_batch_size)
    _check_wait(batch_wait_timeout_s)
    if not isinstance(max_concurrent_batches, int) or max_concurrent_batches < 1:
        raise TypeError(f"max_concurrent_batches must be an integer >= 1, got {max_concurrent_batches}")
    if batch_size_fn is not None and not callable(batch_size_fn):
        raise TypeError(f"batch_size_fn must be a callable or None, got {type(batch_size_fn)}")
    options = (int(max_batch_size), float(batch_wait_timeout_s), max_concurrent_batches, batch_size_fn)

    def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
        if not (iscoroutinefunction(function) or isasyncgenfunction(function)):
            raise TypeError("Functions decorated with @serve.batch must be 'async def'")
        return _decorated(function, BatchSettings(*options))

    return decorate(_func) if _func is not None else decorate


class Batcher:
    """What a decorated function refers to: its settings and its queues. It travels with the function, without the queues;
    the decorated function itself must refer to nothing that cannot be pickled."""

    def __init__(self, function: Callable[..., Any], settings: BatchSettings) -> None:
        self.function = function
        self.settings = settings
        self._alone: dict[str, dict[int, BatchQueue]] = {}

    def __getstate__(self) -> dict[str, Any]:
        return {"function": self.function, "settings": self.settings, "_alone": {}}

    def put(self, args: tuple, kwargs: dict[str, Any]) -> asyncio.Future[Any]:
        """One more call; its result to come."""
        parameters = signature(self.function)
        bound = parameters.bind(*args, **kwargs)
        bound.apply_defaults()
        arguments = dict(bound.arguments)
        is_method = next(iter(parameters.parameters), "") == "self"
        instance = arguments.pop("self") if is_method else None
        loop = asyncio.get_running_loop()
        kept = self._alone if instance is None else instance.__dict__.setdefault(_QUEUES, {})
        queues = kept.setdefault(self.function.__name__, {})
        queue = queues.get(id(loop))
        if queue is None:
            queue = queues[id(loop)] = BatchQueue(self.function, instance, self.settings)
        future: asyncio.Future[Any] = loop.create_future()
        queue.put(_Call(arguments, request_context.get(), future))
        return future

    def stream(self, args: tuple, kwargs: dict[str, Any]) -> AsyncIterator[Any]:
        """One more call of a generator."""
        return _stream(self.put(args, kwargs))

    def set_max_batch_size(self, new_max_batch_size: int) -> None:
        """From the next batch on."""
        _check_size(new_max_batch_size)
        self.settings.size = int(new_max_batch_size)

    def set_batch_wait_timeout_s(self, new_batch_wait_timeout_s: float) -> None:
        """From the next batch on."""
        _check_wait(new_batch_wait_timeout_s)
        self.settings.wait_s = float(new_batch_wait_timeout_s)

    def max_batch_size(self) -> int:
        """In force."""
        return self.settings.size

    def batch_wait_timeout_s(self) -> float:
        """In force."""
        return self.settings.wait_s


def _decorated(function: Callable[..., Any], settings: BatchSettings) -> Callable[..., Any]:
    batcher = Batcher(function, settings)
    if isasyncgenfunction(function):

        @wraps(function)
        def wrapper(*args: Any, **kwargs: Any) -> Any:
            return batcher.stream(args, kwargs)

    else:

        @wraps(function)
        async def wrapper(*args: Any, **kwargs: Any) -> Any:
            return await batcher.put(args, kwargs)

    wrapper.set_max_batch_size = batcher.set_max_batch_size  # type: ignore[attr-defined]
    wrapper.set_batch_wait_timeout_s = batcher.set_batch_wait_timeout_s  # type: ignore[attr-defined]
    wrapper._get_max_batch_size = batcher.max_batch_size  # type: ignore[attr-defined]
    wrapper._get_batch_wait_timeout_s = batcher.batch_wait_timeout_s  # type: ignore[attr-defined]
    return wrapper


async def _stream(first: asyncio.Future[Any]) -> AsyncIterator[Any]:
    future = first
    while (entry := await future) is not None:
        value, future = entry
        yield value


def _check_size(size: Any) -> None:
    if isinstance(size, bool) or not isinstance(size, (int, float)) or size != int(size):
        raise TypeError(f"max_batch_size must be integer >= 1, got {size}")
    if size < 1:
        raise ValueError(f"max_batch_size must be an integer >= 1, got {size}")


def _check_wait(wait_s: Any) -> None:
    if isinstance(wait_s, bool) or not isinstance(wait_s, (int, float)):
        raise TypeError(f"batch_wait_timeout_s must be a float >= 0, got {wait_s}")
    if wait_s < 0:
        raise ValueError(f"batch_wait_timeout_s must be a float >= 0, got {wait_s}")
