"""Worker group: the actors of one attempt, in a placement group of their own.

Places them, ranks them, and runs what a backend asks on them. Every method blocks: the controller calls it on a thread.
Invariants: all workers are there or none; world rank i is `workers[i]`; `shutdown` leaves neither actor nor placement
group.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from raybook import api
from raybook.exceptions import GetTimeoutError, RayActorError, RayError
from raybook.train.core.ranks import Rank, WorkerPlace, assign_ranks
from raybook.train.exceptions import WorkerGroupStartupFailedError, WorkerGroupStartupTimeoutError
from raybook.train.worker import TrainWorker

# A backend's last words are worth this much waiting; then the processes are ended anyway.
SHUTDOWN_TIMEOUT_S = 5.0


@dataclass(frozen=True)
class GroupRequest:
    """What a group is to be. selectors: one label selector a worker, or None."""

    size: int
    resources_per_worker: Mapping[str, float]
    strategy: str = "PACK"
    selectors: list[dict[str, str]] | None = None
    runtime_env: Mapping[str, Any] | None = None
    start_timeout_s: float = 60.0


@dataclass(frozen=True)
class Worker:
    """One member. actor: its handle."""

    actor: Any
    place: WorkerPlace
    rank: Rank


class WorkerGroup:
    """The workers, in the order of their world ranks."""

    def __init__(self, request: GroupRequest) -> None:
        """Start the actors and wait until each has said where it is.

        Raises WorkerGroupStartupTimeoutError if there was no room in time, WorkerGroupStartupFailedError if one died.
        """
        self.request = request
        self._actors: list[Any] = []
        self._placement_group = self._reserve()
        try:
            self._actors = [self._start_actor(index) for index in range(request.size)]
            places = self._places()
        except BaseException:
            self.shutdown()
            raise
        self.workers = [
            Worker(self._actors[rank.position], places[rank.position], rank) for rank in assign_ranks(places)
        ]

    def __len__(self) -> int:
        return len(self.workers)

    def get_resources_per_worker(self) -> dict[str, float]:
        """Return what each worker holds."""
        return dict(self.request.resources_per_worker)

    def get_workers(self) -> list[Worker]:
        """Return the workers, by world rank."""
        return list(self.workers)

    def execute(self, func: Callable[..., Any], *args: Any, **kwargs: Any) -> list[Any]:
        """Run func on all workers; return what it returned, by world rank. Raises what it raised anywhere."""
        return api.get(self.execute_async(func, *args, **kwargs))

    def execute_async(self, func: Callable[..., Any], *args: Any, **kwargs: Any) -> list[Any]:
        """Begin to run func on all workers; return the references."""
        return [worker.actor.execute.remote(func, *args, **kwargs) for worker in self.workers]

    def execute_single(self, worker_index: int, func: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Run func on the worker of this world rank."""
        return api.get(self.execute_single_async(worker_index, func, *args, **kwargs))

    def execute_single_async(self, worker_index: int, func: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Begin to run func on the worker of this world rank; return the reference."""
        return self.workers[worker_index].actor.execute.remote(func, *args, **kwargs)

    def node_ids(self) -> list[str]:
        """Return each worker's node."""
        return [worker.place.node_id for worker in self.workers]

    def ranks_on(self, node_id: str) -> list[int]:
        """Return the world ranks on a node."""
        return [worker.rank.world_rank for worker in self.workers if worker.place.node_id == node_id]

    def shutdown(self) -> None:
        """End every worker's process and give the room back. Idempotent."""
        for actor in self._actors:
            api.kill(actor)
        self._actors = []
        group, self._placement_group = self._placement_group, None
        if group is not None:
            try:
                api.remove_placement_group(group)
            except RayError:
                pass  # It went with its node, or the cluster ends.

    def _reserve(self) -> Any:
        request = self.request
        bundle = {name: amount for name, amount in request.resources_per_worker.items() if amount > 0}
        if not bundle:
            return None  # Workers that hold nothing need no room.
        group = api.placement_group([bundle] * request.size, request.strategy, bundle_label_selector=request.selectors)
        if not group.wait(request.start_timeout_s):
            why = api.placement_group_table(group)
            api.remove_placement_group(group)
            waiting = (why.get("stats") or {}).get("scheduling_state") or why.get("state")
            raise WorkerGroupStartupTimeoutError(
                request.size,
                f"There was no room for {request.size} times {bundle} within {request.start_timeout_s:g} s "
                f"({waiting}). RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S sets the limit.",
            )
        return group

    def _start_actor(self, index: int) -> Any:
        options = actor_options(self.request.resources_per_worker)
        if self._placement_group is not None:
            options["scheduling_strategy"] = api.PlacementGroupSchedulingStrategy(
                placement_group=self._placement_group, placement_group_bundle_index=index
            )
        if self.request.runtime_env:
            options["runtime_env"] = dict(self.request.runtime_env)
        return api.remote(TrainWorker).options(**options).remote()

    def _places(self) -> list[WorkerPlace]:
        try:
            references = [actor.describe.remote() for actor in self._actors]
            return api.get(references, timeout=self.request.start_timeout_s)
        except GetTimeoutError:
            raise WorkerGroupStartupTimeoutError(
                self.request.size,
                f"They have room, and their processes were not ready within {self.request.start_timeout_s:g} s.",
            ) from None
        except RayActorError as error:
            raise WorkerGroupStartupFailedError(f"A worker died before it was ready: {error}") from error


def actor_options(resources: Mapping[str, float]) -> dict[str, Any]:
    """Return the options of an actor that holds these resources for its whole life."""
    named = {"CPU": "num_cpus", "GPU": "num_gpus", "memory": "memory"}
    options: dict[str, Any] = {"num_cpus": 0}
    custom: dict[str, float] = {}
    for name, amount in resources.items():
        if amount <= 0:
            continue
        if name in named:
            options[named[name]] = int(amount) if name == "memory" else amount
        else:
            custom[name] = amount
    if custom:
        options["resources"] = custom
    return options
