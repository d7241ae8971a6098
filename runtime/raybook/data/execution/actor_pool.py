"""Pool of actors: a map whose program is made once in each actor. It grows while all of its actors are busy.

An actor that dies starts again, and the runtime repeats its tasks; the class is made anew then. Invariants: never more
actors than `max_size`; at most `in_flight_max` tasks with one actor.
"""

from __future__ import annotations

import math
from typing import Any

from raybook.api import kill, remote
from raybook.data.compute import ActorPoolStrategy
from raybook.data.execution.map_operator import MapOperator
from raybook.data.execution.operator import RunningTask
from raybook.data.execution.worker_side import PoolWorker

IN_FLIGHT_DEFAULT = 2
"""One that runs and one whose blocks are on their way."""


class PooledActor:
    __slots__ = ("handle", "in_flight")

    def __init__(self, handle: Any) -> None:
        self.handle = handle
        self.in_flight = 0


class ActorPoolMapOperator(MapOperator):
    def __init__(self, *arguments: Any, strategy: ActorPoolStrategy, cluster_cpus: float, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._strategy = strategy
        calls = strategy.max_concurrent_calls_per_actor or 1
        configured = strategy.max_tasks_in_flight_per_actor or self._launcher.context.max_tasks_in_flight_per_actor
        self._in_flight_max = configured or max(IN_FLIGHT_DEFAULT, 2 * calls)
        self._calls = calls
        cpus = float(self._options.get("num_cpus", 1) or 0)
        # Without a limit of its own a pool may grow to what the cluster has CPUs for.
        room = max(strategy.min_size, int(cluster_cpus // cpus)) if cpus else max(strategy.min_size, int(cluster_cpus))
        self._size_max = room if math.isinf(strategy.max_size) else int(strategy.max_size)
        self._actors: list[PooledActor] = []

    def begin(self) -> None:
        super().begin()
        for _ in range(self._strategy.initial_size):
            self._add_actor()

    def _add_actor(self) -> None:
        options = dict(self._options)
        if self._options_fn is not None:
            options.update(self._options_fn())
        options.setdefault("max_restarts", -1)
        options.setdefault("max_task_retries", -1)
        options.pop("max_retries", None)
        if self._calls > 1:
            options.setdefault("max_concurrency", self._calls)
        handle = remote(PoolWorker).options(name=None, **options).remote(self._shipment.shipment, self._shipment.large)
        self._actors.append(PooledActor(handle))

    def slots_free(self) -> int | None:
        free = sum(self._in_flight_max - actor.in_flight for actor in self._actors)
        if not free and len(self._actors) < self._size_max and self._work and not self.is_halted:
            self._add_actor()
            return self._in_flight_max
        return free

    def _launch(self, number: int, inputs: list[Any]) -> Any:
        actor = min(self._actors, key=lambda one: one.in_flight)
        if actor.in_flight >= self._in_flight_max and len(self._actors) < self._size_max:
            self._add_actor()
            actor = self._actors[-1]
        actor.in_flight += 1
        self._latest = actor
        return actor.handle.run.remote(number, None, *inputs)

    def start_task(self) -> RunningTask:
        task = super().start_task()
        task.info = (*task.info, self._latest)
        return task

    def task_done(self, task: RunningTask) -> None:
        task.info[2].in_flight -= 1
        super().task_done(task)

    def end(self) -> None:
        for actor in self._actors:
            kill(actor.handle)
        self._actors.clear()

    def cpus_and_gpus(self) -> tuple[float, float]:
        # The actors hold their resources already; a task of theirs asks for nothing more.
        return 0.0, 0.0

    @property
    def pool_size(self) -> int:
        return len(self._actors)
