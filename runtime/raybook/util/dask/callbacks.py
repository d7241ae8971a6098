"""Callbacks around Dask tasks that run in the cluster: before and after submitting, before and after running, at the end.

``ray_pretask`` and ``ray_posttask`` run where the task runs, and travel there; the others run in the driver. Source: Ray's
``ray.util.dask.callbacks``, names and order.
"""

from __future__ import annotations

import sys
import time
from collections import namedtuple
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any, ClassVar

from dask.callbacks import Callback

from raybook.api import ObjectRef, get, remote, wait

CBS = ("ray_presubmit", "ray_postsubmit", "ray_pretask", "ray_posttask", "ray_postsubmit_all", "ray_finish")
"""The kinds, as RayDaskCallback takes them as keywords."""
CB_FIELDS = tuple("_" + name for name in CBS)
CBS_DONT_DROP = {"ray_pretask", "ray_posttask"}
"""Kinds that go in pairs: where one is missing, None keeps its place."""
LOOK_S = 0.5
"""How often a progress bar moves."""
RayCallback = namedtuple("RayCallback", CBS)  # type: ignore[misc]
RayCallbacks = namedtuple("RayCallbacks", [f"{name}_cbs" for name in CBS])  # type: ignore[misc]


class RayDaskCallback(Callback):
    """Subclass it with methods ``_ray_presubmit`` and so on, or give functions: ``RayDaskCallback(ray_finish=print)``.
    Active as a context manager, between ``register`` and ``unregister``, or as ``compute(ray_callbacks=[...])``.

    - ray_presubmit(task, key, deps): what it returns, unless None, is the task's result, and nothing is submitted.
    - ray_postsubmit(task, key, deps, object_ref)
    - ray_pretask(key, object_refs): what it returns is handed to the ray_posttask of the same callback.
    - ray_posttask(key, result, pre_state)
    - ray_postsubmit_all(object_refs, dsk)
    - ray_finish(result)
    """

    ray_active: ClassVar[set[Any]] = set()

    def __init__(self, **kwargs: Any) -> None:
        for name in CBS:
            function = kwargs.pop(name, None)
            if function is not None:
                setattr(self, "_" + name, function)
        super().__init__(**kwargs)

    @property
    def _ray_callback(self) -> Any:
        return RayCallback(*[getattr(self, field, None) for field in CB_FIELDS])

    def __enter__(self) -> RayDaskCallback:
        self._ray_cm = add_ray_callbacks(self)
        super().__enter__()
        return self

    def __exit__(self, *args: Any) -> None:
        super().__exit__(*args)
        self._ray_cm.__exit__(*args)

    def register(self) -> None:
        """Active from now on."""
        RayDaskCallback.ray_active.add(self._ray_callback)
        super().register()

    def unregister(self) -> None:
        """Active no more."""
        RayDaskCallback.ray_active.remove(self._ray_callback)
        super().unregister()


class add_ray_callbacks:  # noqa: N801 - Ray's name.
    """A context in which callbacks are active."""

    def __init__(self, *callbacks: Any) -> None:
        self.callbacks = [normalize_ray_callback(callback) for callback in callbacks]
        RayDaskCallback.ray_active.update(self.callbacks)

    def __enter__(self) -> add_ray_callbacks:
        return self

    def __exit__(self, *args: Any) -> None:
        RayDaskCallback.ray_active.difference_update(self.callbacks)


def normalize_ray_callback(cb: Any) -> Any:
    """The functions of a callback. TypeError for anything else."""
    if isinstance(cb, RayDaskCallback):
        return cb._ray_callback
    if isinstance(cb, RayCallback):
        return cb
    raise TypeError("Callbacks must be either 'RayDaskCallback' or 'RayCallback' namedtuple")


def unpack_ray_callbacks(cbs: Iterable[Any]) -> Any:
    """The functions of all callbacks, by kind."""
    found = [normalize_ray_callback(cb) for cb in cbs or ()]
    by_kind = []
    for name, functions in zip(CBS, zip(*found, strict=True) if found else [()] * len(CBS), strict=True):
        kept = [function for function in functions if function or name in CBS_DONT_DROP]
        by_kind.append(kept or None if found else ())
    return RayCallbacks(*by_kind)


@contextmanager
def local_ray_callbacks(callbacks: Iterable[Any] | None = None) -> Iterator[Iterable[Any]]:
    """The callbacks of one computation: those given, or else the active ones, which computations inside it do not see."""
    if callbacks is not None:
        yield callbacks
        return
    active, RayDaskCallback.ray_active = RayDaskCallback.ray_active, set()
    try:
        yield active
    finally:
        RayDaskCallback.ray_active = active


class ProgressBarCallback(RayDaskCallback):
    """Shows on stderr how many tasks of a computation are done. It looks twice a second, and ``compute`` begins to fetch
    results when all are."""

    def __init__(self) -> None:
        self._counter = remote(num_cpus=0)(_Counter).remote()
        self._submitted = 0
        # These travel with every task, and must not take the rest of this object along.
        counter = self._counter
        self._ray_posttask = lambda key, result, pre_state: counter.add.remote()
        super().__init__()

    def _ray_postsubmit(self, task: Any, key: Any, deps: Any, object_ref: Any) -> None:
        self._submitted += 1

    def _ray_postsubmit_all(self, object_refs: Any, dsk: Any) -> None:
        started = time.monotonic()
        pending = list(_flat(object_refs))
        while pending:
            _, pending = wait(pending, num_returns=len(pending), timeout=LOOK_S, fetch_local=False)
            # The last tasks' words may be on their way still; that the results are there is certain.
            done = get(self._counter.count.remote()) if pending else self._submitted
            print(
                f"\rdask: {done} of {self._submitted} tasks, {time.monotonic() - started:.1f} s",
                end="",
                file=sys.stderr,
            )
        print(file=sys.stderr)


class _Counter:
    def __init__(self) -> None:
        self._count = 0

    def add(self) -> None:
        self._count += 1

    def count(self) -> int:
        return self._count


def _flat(refs: Any) -> Iterator[Any]:
    if isinstance(refs, (list, tuple)):
        for ref in refs:
            yield from _flat(ref)
    elif isinstance(refs, ObjectRef):
        yield refs
