"""Group starter: brings one worker group from nothing to running functions. Blocks; runs on a thread of the controller.

Knows the order of steps; how many workers there are is decided elsewhere.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from raybook import api
from raybook.exceptions import RayActorError
from raybook.train.core.ranks import WorkerPlace
from raybook.train.core.scaling import count_workers, shortage
from raybook.train.exceptions import WorkerGroupStartupFailedError
from raybook.train.run_plan import RunPlan
from raybook.train.worker_group import GroupRequest, WorkerGroup
from raybook.train.worker_session import Assignment

NO_REASON = ""


class GroupStarter:
    """Starts the groups of one run. controller: the handle that workers call."""

    def __init__(self, plan: RunPlan, controller: Any) -> None:
        self._plan = plan
        self._controller = controller
        context = plan.run_context
        self._scaling = context.scaling_config
        self._backend_config = context.backend_config
        self._backend = self._backend_config.backend_cls()

    def possible_workers(self, held: WorkerGroup | None = None) -> int:
        """Return how many workers the cluster has room for now, what `held` has counted as free. One round trip."""
        per_worker = self._scaling._resources_per_worker_not_none
        rooms = []
        for node in api.nodes():
            if not node["Alive"] or node.get("DrainReason"):
                continue
            room = dict(node["AvailableResources"])
            if held is not None:
                mine = len(held.ranks_on(node["NodeID"]))
                for name, amount in per_worker.items():
                    room[name] = room.get(name, 0.0) + amount * mine
            rooms.append(room)
        return count_workers(rooms, per_worker, self._scaling.max_workers)

    def shortage(self) -> str:
        """Say what the whole cluster lacks for the fewest workers; empty if nothing."""
        missing = shortage(
            api.cluster_resources(), self._scaling._resources_per_worker_not_none, self._scaling.min_workers
        )
        return ", ".join(f"{asked:g} {name} (the cluster has {there:g})" for name, (asked, there) in missing.items())

    def place(self, size: int) -> WorkerGroup:
        """Place the workers. Raises the start-up errors of `WorkerGroup`."""
        run_config = self._plan.run_context.run_config
        return WorkerGroup(
            GroupRequest(
                size,
                self._scaling._resources_per_worker_not_none,
                self._scaling.placement_strategy,
                self._scaling.selectors_for(size),
                run_config.worker_runtime_env or None,
                self._plan.settings.group_start_timeout_s,
            )
        )

    def prepare(self, group: WorkerGroup, attempt: int, checkpoint: Any, reports: int) -> None:
        """Tell each worker its rank and let the backend set up. Raises WorkerGroupStartupFailedError if one dies."""
        plan = self._plan
        try:
            api.get(
                [
                    worker.actor.prepare.remote(
                        Assignment(
                            attempt,
                            worker.rank,
                            self._controller,
                            plan.storage,
                            self._backend_config,
                            tuple(plan.datasets),
                            checkpoint,
                            reports,
                            plan.validation_config is not None,
                        )
                    )
                    for worker in group.workers
                ]
            )
            if self._backend.share_cuda_visible_devices and self._scaling.num_gpus_per_worker > 0:
                self._share_devices(group)
            self._backend.on_start(group, self._backend_config)
            self._backend.on_training_start(group, self._backend_config)
        except RayActorError as error:
            raise WorkerGroupStartupFailedError(f"A worker died while the group was set up: {error}") from error

    def launch(self, group: WorkerGroup) -> list[Any]:
        """Call the training functions; return the references of their outcomes, by world rank."""
        return [worker.actor.run.remote(self._plan.function) for worker in group.workers]

    def finish(self, group: WorkerGroup) -> None:
        """All functions have returned: let the backend clean up, and end the group."""
        try:
            self._backend.on_shutdown(group, self._backend_config)
        except RayActorError:
            pass  # It was leaving anyway.
        group.shutdown()

    @staticmethod
    def _share_devices(group: WorkerGroup) -> None:
        devices: dict[str, set[str]] = {}
        for worker in group.workers:
            devices.setdefault(worker.place.node_id, set()).update(worker.place.gpu_ids)
        api.get(
            [
                group.execute_single_async(
                    worker.rank.world_rank, _set_visible_devices, sorted(devices[worker.place.node_id], key=_device_key)
                )
                for worker in group.workers
            ]
        )


def _device_key(text: str) -> tuple[int, str]:
    return (int(text), "") if text.isdigit() else (0, text)


def _set_visible_devices(devices: list[str]) -> None:
    os.environ["CUDA_VISIBLE_DEVICES"] = ",".join(devices)


def shown_places(group: WorkerGroup) -> list[Mapping[str, Any]]:
    """Return the workers as short rows, for facts and logs."""

    def row(place: WorkerPlace, rank: int) -> Mapping[str, Any]:
        return {"rank": rank, "node": place.node_id, "ip": place.node_ip, "pid": place.pid, "gpus": list(place.gpu_ids)}

    return [row(worker.place, worker.rank.world_rank) for worker in group.workers]
