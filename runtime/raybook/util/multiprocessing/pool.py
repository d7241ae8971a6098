"""Pool: ``multiprocessing.Pool`` with actors for processes. Checks what it is asked for and cuts it into chunks.

It does not know which actor runs what; the dispatcher does. Differences to the standard library, as Ray has them:
``imap`` and ``imap_unordered`` take their iterable as results are taken, and hand out exceptions as values.
"""

from __future__ import annotations

import functools
import os
import weakref
from collections.abc import Callable, Iterable, Iterator
from itertools import count, islice
from typing import Any, NoReturn

from raybook.api import ActorHandle, cluster_resources, get, init, is_initialized, kill, remote
from raybook.api.init_options import ADDRESS_VARIABLES
from raybook.base.errors import RayError
from raybook.util.multiprocessing.dispatcher import Dispatcher
from raybook.util.multiprocessing.results import AsyncResult, Callback, Chunk, IMapIterator, IMapUnorderedIterator
from raybook.util.pool_worker import PoolWorker

CHUNKS_EACH = 4
"""``map`` cuts its work into this many chunks for each process, as the standard library does."""
IMAP_AHEAD = 64
"""Chunks that ``imap`` has under way for each process: short ones travel together."""


class Pool:
    """``processes`` actors (as many as the cluster has CPUs if left out) that run what they are given.

    initializer, initargs: called in each before anything else. maxtasksperchild: chunks after which a process makes
    way for a new one. ray_address: where to connect when raybook does not run yet; by default it is started here.
    ray_remote_args: options of the actors. context is accepted and has no effect. Blocks until the processes are up.
    ValueError for more processes than CPUs.
    """

    def __init__(
        self,
        processes: int | None = None,
        initializer: Callable[..., Any] | None = None,
        initargs: Iterable[Any] | None = None,
        maxtasksperchild: int | None = None,
        context: Any = None,
        ray_address: str | None = None,
        ray_remote_args: dict[str, Any] | None = None,
    ) -> None:
        if initializer is not None and not callable(initializer):
            raise TypeError("initializer must be a callable")
        if processes is not None and processes <= 0:
            raise ValueError("Processes in the pool must be >0.")
        if maxtasksperchild is not None and maxtasksperchild < 1:
            raise ValueError("maxtasksperchild must be a positive number or None.")
        self._closed = False
        self._processes = _find_processes(processes, ray_address)
        actor_class = remote(**{"num_cpus": 0, **(ray_remote_args or {})})(PoolWorker)
        make_actor = functools.partial(actor_class.remote, initializer, tuple(initargs or ()))
        actors = _start(make_actor, self._processes)
        self._dispatcher = Dispatcher(actors, make_actor, maxtasksperchild)
        self._keys = count()
        self._streams: weakref.WeakSet[IMapIterator] = weakref.WeakSet()
        self._is_finished = False
        weakref.finalize(self, self._dispatcher.terminate).atexit = False

    # One call

    def apply(self, func: Callable[..., Any], args: Iterable[Any] | None = None, kwargs: dict | None = None) -> Any:
        """``func(*args, **kwargs)`` in one of the processes; blocks until it has returned."""
        return self.apply_async(func, args, kwargs).get()

    def apply_async(
        self,
        func: Callable[..., Any],
        args: Iterable[Any] | None = None,
        kwargs: dict | None = None,
        callback: Callback = None,
        error_callback: Callback = None,
    ) -> AsyncResult:
        """As ``apply``, at once. callback gets the value, error_callback the exception, on a thread of the pool."""
        self._check_running()
        result = AsyncResult(self, 1, True, callback, error_callback)
        function = functools.partial(func, **kwargs) if kwargs else func
        self._dispatcher.submit([Chunk(function, [tuple(args or ())], True, result, 0, -1)])
        return result

    # Many calls, one list

    def map(self, func: Callable[..., Any], iterable: Iterable[Any], chunksize: int | None = None) -> list[Any]:
        """``[func(item) for item in iterable]``, spread over the processes. Raises the first error."""
        return self.map_async(func, iterable, chunksize).get()

    def map_async(
        self,
        func: Callable[..., Any],
        iterable: Iterable[Any],
        chunksize: int | None = None,
        callback: Callback = None,
        error_callback: Callback = None,
    ) -> AsyncResult:
        """As ``map``, at once. callback gets the list, error_callback the first error."""
        return self._map_async(func, list(iterable), False, chunksize, callback, error_callback)

    def starmap(
        self, func: Callable[..., Any], iterable: Iterable[Iterable[Any]], chunksize: int | None = None
    ) -> list:
        """As ``map``, with ``func(*item)``."""
        return self.starmap_async(func, iterable, chunksize).get()

    def starmap_async(
        self,
        func: Callable[..., Any],
        iterable: Iterable[Iterable[Any]],
        chunksize: int | None = None,
        callback: Callback = None,
        error_callback: Callback = None,
    ) -> AsyncResult:
        """As ``map_async``, with ``func(*item)``."""
        return self._map_async(func, [tuple(item) for item in iterable], True, chunksize, callback, error_callback)

    def _map_async(
        self,
        func: Callable[..., Any],
        pieces: list[Any],
        is_star: bool,
        chunksize: int | None,
        callback: Callback,
        error_callback: Callback,
    ) -> AsyncResult:
        self._check_running()
        if chunksize is None:
            chunksize = max(1, -(-len(pieces) // (self._processes * CHUNKS_EACH)))
        _check_chunksize(chunksize)
        starts = range(0, len(pieces), chunksize)
        result = AsyncResult(self, len(starts), False, callback, error_callback)
        key = next(self._keys)
        chunks = [
            Chunk(func, pieces[start : start + chunksize], is_star, result, index, key)
            for index, start in enumerate(starts)
        ]
        self._dispatcher.submit(chunks)
        weakref.finalize(result, self._dispatcher.forget, key).atexit = False
        return result

    # Many calls, one after the other

    def imap(self, func: Callable[..., Any], iterable: Iterable[Any], chunksize: int = 1) -> IMapIterator:
        """``func(item)`` for every item, in order, as the results are asked for. An exception comes as a value."""
        return self._imap(IMapIterator, func, iterable, chunksize)

    def imap_unordered(self, func: Callable[..., Any], iterable: Iterable[Any], chunksize: int = 1) -> IMapIterator:
        """As ``imap``, each result when it is there."""
        return self._imap(IMapUnorderedIterator, func, iterable, chunksize)

    def _imap(
        self, kind: type[IMapIterator], func: Callable[..., Any], iterable: Iterable[Any], chunksize: int
    ) -> IMapIterator:
        self._check_running()
        _check_chunksize(chunksize)
        key = next(self._keys)
        pool = self

        def submit(receiver: IMapIterator, index: int, pieces: list[Any]) -> None:
            # Through the pool, which must live as long as its iterator does.
            pool._dispatcher.submit([Chunk(func, pieces, False, receiver, index, key)])

        stream = kind(submit, _cut(iter(iterable), chunksize))
        self._streams.add(stream)
        weakref.finalize(stream, self._dispatcher.forget, key).atexit = False
        stream.submit(self._processes * IMAP_AHEAD)
        return stream

    # The end

    def close(self) -> None:
        """Take no more work; the processes end when what there is is done."""
        self._closed = True
        if all(stream.is_exhausted for stream in self._streams):
            self._finish()

    def terminate(self) -> None:
        """End the processes now; what has no result fails."""
        self._closed = True
        self._is_finished = True
        self._dispatcher.terminate()

    def join(self) -> None:
        """Wait until all work is done and the processes are let go of. ValueError before ``close`` or ``terminate``."""
        if not self._closed:
            raise ValueError("Pool is still running")
        if not self._is_finished:
            for stream in list(self._streams):
                stream.submit(None)
            self._finish()
        self._dispatcher.join()

    def _finish(self) -> None:
        if not self._is_finished:
            self._is_finished = True
            self._dispatcher.finish()

    def __enter__(self) -> Pool:
        self._check_running()
        return self

    def __exit__(self, *error: object) -> None:
        self.terminate()

    def _check_running(self) -> None:
        if self._closed:
            raise ValueError("Pool not running")

    def __reduce__(self) -> NoReturn:
        raise NotImplementedError("pool objects cannot be passed between processes or pickled")

    def __repr__(self) -> str:
        return f"Pool(processes={self._processes}, {'closed' if self._closed else 'running'})"


def _find_processes(asked: int | None, address: str | None) -> int:
    """How many processes the pool has; starts or joins a cluster if need be."""
    if not is_initialized():
        is_elsewhere = address is not None or any(os.environ.get(name) for name in ADDRESS_VARIABLES)
        init(address) if is_elsewhere else init(num_cpus=asked)
    cpus = int(cluster_resources().get("CPU", 0))
    if asked is not None and asked > cpus:
        raise ValueError(
            f"Tried to start a pool with {asked} processes on an existing ray cluster, but there are only {cpus} CPUs "
            "in the ray cluster."
        )
    if not cpus:
        raise ValueError("The cluster has no CPUs, so a pool must be told how many processes it has.")
    return asked or cpus


def _start(make_actor: Callable[[], ActorHandle], number: int) -> list[ActorHandle]:
    """Actors whose ``__init__`` is done. Raises what the initializer raised, as the cause of an ActorDiedError."""
    actors = [make_actor() for _ in range(number)]
    try:
        get([actor.__ray_ready__.remote() for actor in actors])
    except (RayError, KeyboardInterrupt):
        for actor in actors:
            kill(actor)
        raise
    return actors


def _check_chunksize(chunksize: int) -> None:
    if chunksize < 1:
        raise ValueError(f"Chunksize must be 1+, not {chunksize}")


def _cut(items: Iterator[Any], chunksize: int) -> Iterator[list[Any]]:
    while chunk := list(islice(items, chunksize)):
        yield chunk
