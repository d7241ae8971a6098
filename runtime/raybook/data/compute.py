"""Compute strategies: does a transform run in tasks or in a pool of actors, and in how many at a time."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any


class ComputeStrategy:
    """Base of the two strategies."""


class TaskPoolStrategy(ComputeStrategy):
    """Run in stateless tasks; at most `size` at a time if given."""

    def __init__(self, size: int | None = None) -> None:
        if size is not None and size < 1:
            raise ValueError("`size` must be >= 1", size)
        self.size = size

    def __eq__(self, other: object) -> bool:
        return isinstance(other, TaskPoolStrategy) and self.size == other.size

    def __hash__(self) -> int:
        return hash((TaskPoolStrategy, self.size))

    def __repr__(self) -> str:
        return f"TaskPoolStrategy(size={self.size})"


class ActorPoolStrategy(ComputeStrategy):
    """Run in actors that each make the callable class once: `size` of them, or as many as are busy between `min_size`
    and `max_size`.

    max_tasks_in_flight_per_actor: tasks sent to one actor at a time, so that its next input is there when it is done
    (default 2). max_concurrent_calls_per_actor: how many of them run at a time in its process (default 1);
    enable_true_multi_threading: whether the function itself may then run in several threads.
    """

    def __init__(
        self,
        *,
        size: int | None = None,
        min_size: int | None = None,
        max_size: int | None = None,
        initial_size: int | None = None,
        max_tasks_in_flight_per_actor: int | None = None,
        max_concurrent_calls_per_actor: int | None = None,
        enable_true_multi_threading: bool | None = None,
    ) -> None:
        if size is not None:
            if size < 1:
                raise ValueError("size must be >= 1", size)
            if max_size is not None or min_size is not None or initial_size is not None:
                raise ValueError("min_size, max_size, and initial_size cannot be set at the same time as `size`")
            min_size = max_size = initial_size = size
        if min_size is not None and min_size < 1:
            raise ValueError("min_size must be >= 1", min_size)
        if max_size is not None and (min_size or 1) > max_size:
            raise ValueError("min_size must be <= max_size", min_size, max_size)
        for name, value in (
            ("max_tasks_in_flight_per_actor", max_tasks_in_flight_per_actor),
            ("max_concurrent_calls_per_actor", max_concurrent_calls_per_actor),
        ):
            if value is not None and value < 1:
                raise ValueError(f"{name} must be >= 1, got: ", value)
        self.min_size: int = min_size or 1
        self.max_size: float = max_size or float("inf")
        if initial_size is not None and initial_size < self.min_size:
            raise ValueError(f"initial_size ({initial_size}) must be >= min_size ({self.min_size})")
        if initial_size is not None and initial_size > self.max_size:
            raise ValueError(f"initial_size ({initial_size}) must be <= max_size ({self.max_size})")
        self.initial_size: int = initial_size or self.min_size
        self.max_tasks_in_flight_per_actor = max_tasks_in_flight_per_actor
        self.max_concurrent_calls_per_actor = max_concurrent_calls_per_actor
        self.num_workers = 0
        self.ready_to_total_workers_ratio = 0.8
        self.enable_true_multi_threading = bool(enable_true_multi_threading)

    def _key(self) -> tuple[Any, ...]:
        return (
            self.min_size,
            self.max_size,
            self.initial_size,
            self.enable_true_multi_threading,
            self.max_tasks_in_flight_per_actor,
            self.max_concurrent_calls_per_actor,
        )

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ActorPoolStrategy) and self._key() == other._key()

    def __hash__(self) -> int:
        return hash(self._key())

    def __repr__(self) -> str:
        return (
            f"ActorPoolStrategy(min_size={self.min_size}, max_size={self.max_size}, "
            f"initial_size={self.initial_size}, max_tasks_in_flight_per_actor={self.max_tasks_in_flight_per_actor}, "
            f"max_concurrent_calls_per_actor={self.max_concurrent_calls_per_actor}, num_workers={self.num_workers}, "
            f"enable_true_multi_threading={self.enable_true_multi_threading}, "
            f"ready_to_total_workers_ratio={self.ready_to_total_workers_ratio})"
        )


def strategy_for(
    fn: Callable[..., Any] | type,
    compute: str | ComputeStrategy | None,
    concurrency: int | tuple[int, ...] | None,
    fn_constructor_args: Any = None,
) -> ComputeStrategy:
    """The strategy that `compute`, the older `concurrency` and the kind of `fn` come to. ValueError when they do not
    fit each other; a class needs actors, a function tasks."""
    is_class = inspect.isclass(fn)
    if not is_class and fn_constructor_args is not None:
        raise ValueError(
            "``fn_constructor_args`` can only be specified if providing a callable class instance for ``fn``, but got: "
            f"{fn}."
        )
    if compute is not None:
        if is_class and (compute == "tasks" or isinstance(compute, TaskPoolStrategy)):
            raise ValueError(
                f"You specified the callable class {fn} as your UDF with the compute {compute}, but Ray Data can't "
                "schedule callable classes with the task pool strategy. To fix this error, pass an ActorPoolStrategy "
                "to compute or None to use the default compute strategy."
            )
        if not is_class and (compute == "actors" or isinstance(compute, ActorPoolStrategy)):
            raise ValueError(
                f"You specified the function {fn} as your UDF with the compute {compute}, but Ray Data can't schedule "
                "regular functions with the actor pool strategy. To fix this error, pass a TaskPoolStrategy to compute "
                "or None to use the default compute strategy."
            )
        return resolve(compute)
    if concurrency is None:
        return ActorPoolStrategy(min_size=1, max_size=None) if is_class else TaskPoolStrategy()
    if isinstance(concurrency, tuple):
        if len(concurrency) not in (2, 3) or not all(isinstance(one, int) for one in concurrency):
            raise ValueError(f"``concurrency`` is expected to be set as a tuple of integers, but got: {concurrency}.")
        if not is_class:
            raise ValueError(
                f"``concurrency`` is set as a tuple of integers, but ``fn`` is not a callable class: {fn}. Use "
                "``concurrency=n`` to control maximum number of workers to use."
            )
        initial = concurrency[2] if len(concurrency) == 3 else None
        return ActorPoolStrategy(min_size=concurrency[0], max_size=concurrency[1], initial_size=initial)
    if isinstance(concurrency, int) and not isinstance(concurrency, bool):
        return ActorPoolStrategy(size=concurrency) if is_class else TaskPoolStrategy(size=concurrency)
    raise ValueError(
        f"``concurrency`` is expected to be set as an integer or a tuple of integers, but got: {concurrency}."
    )


def resolve(compute: str | ComputeStrategy | None) -> ComputeStrategy:
    """A strategy as an object; ValueError for what is none."""
    if compute is None or compute == "tasks":
        return TaskPoolStrategy()
    if compute == "actors":
        return ActorPoolStrategy()
    if isinstance(compute, ComputeStrategy):
        return compute
    raise ValueError(f"compute must be a TaskPoolStrategy or an ActorPoolStrategy, was: {compute}.")


def read_strategy(compute: ComputeStrategy | None, concurrency: int | None) -> ComputeStrategy:
    """The strategy of a read: `concurrency` wins over `compute`."""
    if concurrency is not None:
        return TaskPoolStrategy(concurrency)
    return resolve(compute)
