"""Deployment keeper: one deployment from the controller's side: its replicas are made to be what its target says.

The shell around `core/rolling_update` and `core/autoscaling`: it counts, asks them, and carries out. Invariants: each
replica has a rank of its own below the number of replicas; a deployment that failed to deploy starts nothing until it
gets another target; what routers see (`snapshot`) lists running replicas only.
"""

from __future__ import annotations

import itertools
import random
import string
import time
from collections.abc import Awaitable, Callable
from typing import Any

from raybook.api import available_resources
from raybook.serve.core.names import DeploymentID
from raybook.serve.core.rolling_update import Census, batch_of, plan_step
from raybook.serve.core.statuses import DeploymentStatus, DeploymentStatusTrigger, ReplicaState
from raybook.serve.core.target import DeploymentTarget, ReplicaRecord
from raybook.serve.deployment_actor_keeper import DeploymentActors
from raybook.serve.placement import node_for, resources_of
from raybook.serve.replica_keeper import ReplicaKeeper
from raybook.serve.scaler import Scaler

ID_LETTERS = string.ascii_lowercase + string.digits
SLOW_START_S = 30.0
SLOW_AFTER_S = 5.0
BACKOFF_MAX_S = 64.0
_LIVE = (ReplicaState.STARTING, ReplicaState.RECOVERING, ReplicaState.RUNNING)


class DeploymentKeeper:
    """on_change() is called whenever something happened that `step` should look at. callers_know(key, version): until every
    caller has that snapshot or a later one."""

    def __init__(
        self,
        target: DeploymentTarget,
        on_change: Callable[[], None],
        callers_know: Callable[[tuple[str, str], Any], Awaitable[None]],
    ) -> None:
        self._callers_know = callers_know
        self.target = target
        self.id = DeploymentID(target.name, target.app_name)
        self.replicas: list[ReplicaKeeper] = []
        self.is_deleting = False
        self.status = DeploymentStatus.UPDATING
        self.trigger = DeploymentStatusTrigger.CONFIG_UPDATE_STARTED
        self.message = ""
        self.scaler = Scaler(self.id, target)
        self.actors = DeploymentActors(self.id, on_change)
        self._on_change = on_change
        self._failures = 0
        self._total_failures = 0
        self._retry_at_s = 0.0
        self._version = itertools.count(1)
        self._snapshot: dict[str, Any] = {}
        self._letters = random.SystemRandom()
        self.rebuild_snapshot()

    # Targets

    def deploy(self, target: DeploymentTarget) -> None:
        """A new target; what has to change will."""
        before, self.target = self.target, target
        self.is_deleting = False
        self._failures = 0
        self._retry_at_s = 0.0
        self.scaler.deploy(target)
        self.message = ""
        only_count = before.code_version == target.code_version and before.settings == target.settings
        self.trigger = DeploymentStatusTrigger.CONFIG_UPDATE_STARTED
        old, new = before.num_replicas, target.num_replicas
        if only_count and old != new and target.scaling is None:
            self.status = DeploymentStatus.UPSCALING if new > old else DeploymentStatus.DOWNSCALING
        else:
            self.status = DeploymentStatus.UPDATING
        self.rebuild_snapshot()

    def delete(self) -> None:
        """Its replicas finish and end."""
        self.is_deleting = True
        self.status, self.trigger = DeploymentStatus.UPDATING, DeploymentStatusTrigger.DELETING
        self.rebuild_snapshot()

    @property
    def is_gone(self) -> bool:
        """Deleted, to the last replica."""
        return self.is_deleting and not self.replicas

    @property
    def count(self) -> int:
        """How many replicas there should be."""
        return 0 if self.is_deleting else self.scaler.count(self.target)

    @property
    def status_in_application(self) -> DeploymentStatus:
        """What it adds to its application's: a change of size that somebody asked for is an update, one of the
        autoscaler's is everyday."""
        is_asked_for = self.trigger is DeploymentStatusTrigger.CONFIG_UPDATE_STARTED
        if is_asked_for and self.status in (DeploymentStatus.UPSCALING, DeploymentStatus.DOWNSCALING):
            return DeploymentStatus.UPDATING
        return self.status

    def running(self) -> list[ReplicaKeeper]:
        """Those that serve."""
        return [replica for replica in self.replicas if replica.state is ReplicaState.RUNNING]

    # Steps

    def step(self, now_s: float) -> None:
        """Bring what is nearer to what should be. Cheap when they are equal."""
        self._bury()
        if self.is_deleting:
            for replica in self.replicas:
                replica.stop(is_deleted=True)
            self._bury()
            if not self.replicas:
                self.actors.keep(set())
            return
        self._reconfigure()
        self.actors.keep({self.target.code_version, *(replica.record.code_version for replica in self.replicas)})
        if self.status is DeploymentStatus.DEPLOY_FAILED:
            return
        target = self.target
        live = [replica for replica in self.replicas if replica.state in _LIVE]
        new = [replica for replica in live if replica.is_current(target)]
        old = [replica for replica in live if not replica.is_current(target)]
        old_running = [replica for replica in old if replica.state is ReplicaState.RUNNING]
        new_running = [replica for replica in new if replica.state is ReplicaState.RUNNING]
        for replica in old:
            if replica.state is not ReplicaState.RUNNING:
                replica.stop()
        count = self.count
        census = Census(count, len(new) - len(new_running), len(new_running), len(old_running), 0)
        batch = batch_of(count, target.rolling_update_fraction, target.max_surge_percent)
        has_room = bool(old_running) and len(new) < count and self._has_room()
        step = plan_step(census, batch, has_room)
        for replica in self._worst_first(old_running)[: step.stop_old]:
            replica.stop()
        for replica in self._worst_first(new)[: step.stop_new]:
            replica.stop()
        if step.start and now_s >= self._retry_at_s and self._has_actors():
            for _ in range(step.start):
                self._start(count)
        has_failed = self.status is DeploymentStatus.DEPLOY_FAILED
        if step.stop_old or step.stop_new or has_failed:
            self.rebuild_snapshot()
        if not has_failed:
            self._judge(count)

    def _has_actors(self) -> bool:
        """Whether the actors that replicas share run, without which none is started."""
        is_ready = self.actors.are_ready(self.target)
        failure = self.actors.failure()
        if failure:
            self.status, self.trigger = DeploymentStatus.DEPLOY_FAILED, DeploymentStatusTrigger.DEPLOYMENT_ACTOR_FAILED
            self.message = failure
        return is_ready and not failure

    def _start(self, world_size: int) -> None:
        target = self.target
        node_id = node_for(target, self.replicas)
        if target.max_replicas_per_node is not None and node_id is None:
            self.message = "No node may take another replica (max_replicas_per_node), or none has the resources."
            return
        taken = {replica.record.rank for replica in self.replicas if replica.state is not ReplicaState.STOPPING}
        rank = next(number for number in itertools.count() if number not in taken)
        unique_id = "".join(self._letters.choices(ID_LETTERS, k=8))
        record = ReplicaRecord(unique_id, target.app_name, target.name, target.code_version, rank, time.time())
        self.replicas.append(
            ReplicaKeeper.start(target, record, world_size, node_id, self._replica_changed, self._until_unknown)
        )

    def adopt(self, record: ReplicaRecord, handle: Any) -> None:
        """A replica that a former controller started."""
        self.replicas.append(
            ReplicaKeeper.adopt(self.target, record, handle, self._replica_changed, self._until_unknown)
        )

    async def _until_unknown(self) -> None:
        """Until no caller takes a replica that was told to stop just now for a running one."""
        await self._callers_know((self.id.app_name, self.id.name), self._snapshot["version"])

    def _reconfigure(self) -> None:
        settings, count = self.target.settings, self.count
        for replica in self.running():
            replica.target = self.target
            if replica.is_current(self.target) and replica.settings != settings:
                replica.reconfigure(self.target, replica.record.rank, count)

    def _has_room(self) -> bool:
        wanted = resources_of(self.target)
        free = available_resources()
        return all(free.get(name, 0.0) >= amount for name, amount in wanted.items())

    def _worst_first(self, replicas: list[ReplicaKeeper]) -> list[ReplicaKeeper]:
        """Whom to stop first: those that do not serve yet, then the highest ranks."""
        return sorted(replicas, key=lambda each: (each.state is ReplicaState.RUNNING, -each.record.rank))

    def _bury(self) -> None:
        self.replicas = [replica for replica in self.replicas if replica.state is not ReplicaState.STOPPED]

    # What happens

    def _replica_changed(self, replica: ReplicaKeeper) -> None:
        if replica.is_dead and not self.is_deleting and replica.is_current(self.target):
            self._note_death(replica)
        if replica.state is ReplicaState.RUNNING:
            self._failures = 0
        self._bury()
        self.rebuild_snapshot()
        self._on_change()

    def _note_death(self, replica: ReplicaKeeper) -> None:
        was_serving = bool(replica.facts)
        if was_serving:
            self.status, self.trigger = DeploymentStatus.UNHEALTHY, DeploymentStatusTrigger.HEALTH_CHECK_FAILED
            self.message = f"A replica's health check failed: {replica.id} is being replaced. {replica.error}"
            return
        self._failures += 1
        limit = min(self.target.constructor_retries_max, max(1, self.count) * 3)
        self.trigger = DeploymentStatusTrigger.REPLICA_STARTUP_FAILED
        if self._failures >= limit:
            self.status = DeploymentStatus.DEPLOY_FAILED
            self.message = (
                f"The deployment failed to start {self._failures} times in a row. This may be due to a problem with its "
                f"constructor or initial health check failing. See controller logs for details. Error:\n{replica.error}"
            )
            for other in self.replicas:
                if other.is_current(self.target) and other.state is not ReplicaState.RUNNING:
                    other.stop()
            return
        pause_s = min(BACKOFF_MAX_S, 0.25 * 2 ** (self._failures - 1))
        self._retry_at_s = time.monotonic() + pause_s
        self.message = (
            f"A replica failed to start with exception. Retrying {limit - self._failures} more time(s). "
            f"Error:\n{replica.error}"
        )

    def _judge(self, count: int) -> None:
        """The status that follows from what there is."""
        serving = self.running()
        current = [replica for replica in serving if replica.is_current(self.target)]
        stopping_old = [replica for replica in self.replicas if not replica.is_current(self.target)
                        and replica.state is not ReplicaState.STOPPING]  # fmt: skip
        is_done = len(current) == count and len(serving) == count and not stopping_old
        if is_done and all(replica.settings == self.target.settings for replica in current):
            if self.status is not DeploymentStatus.HEALTHY:
                self.trigger = {
                    DeploymentStatus.UPSCALING: DeploymentStatusTrigger.UPSCALE_COMPLETED,
                    DeploymentStatus.DOWNSCALING: DeploymentStatusTrigger.DOWNSCALE_COMPLETED,
                }.get(self.status, DeploymentStatusTrigger.CONFIG_UPDATE_COMPLETED)
            self.status, self.message = DeploymentStatus.HEALTHY, ""
            return
        if self.status is DeploymentStatus.HEALTHY and self.target.scaling is not None and len(current) != count:
            self.trigger = DeploymentStatusTrigger.AUTOSCALING
            self.status = DeploymentStatus.UPSCALING if count > len(current) else DeploymentStatus.DOWNSCALING
        slow = [replica for replica in self.replicas if replica.state is ReplicaState.STARTING
                and time.monotonic() - replica.begun_s > SLOW_AFTER_S]  # fmt: skip
        if slow and not self._failures:
            waited_s = int(time.monotonic() - slow[0].begun_s)
            self.message = (
                f"Deployment '{self.id.name}' in application '{self.id.app_name}' has {len(slow)} replicas that have taken "
                f"more than {waited_s}s to be scheduled or to initialize. They wait for resources "
                f"({resources_of(self.target)}; free in the cluster now: {_shown(available_resources())}), or their "
                "constructor does not return. What served before goes on."
            )

    # What routers see

    def rebuild_snapshot(self) -> None:
        """Make the picture that routers get anew, under a new version."""
        target = self.target
        unavailable = ""
        if self.is_deleting:
            unavailable = "it was deleted"
        elif self.status is DeploymentStatus.DEPLOY_FAILED and not self.running():
            unavailable = "it failed to deploy"
        self._snapshot = {
            "version": (id(self), next(self._version)),
            "replicas": [
                (each.record.unique_id, each.handle, each.node_id, each.models) for each in self.running()
            ],
            "limit": target.settings.max_ongoing_requests,
            "max_queued": target.max_queued_requests,
            "backpressure": (target.backpressure_status, target.retry_after_s),
            "is_autoscaled": target.scaling is not None,
            "unavailable": unavailable,
        }  # fmt: skip

    @property
    def snapshot(self) -> dict[str, Any]:
        """The current one."""
        return self._snapshot


def _shown(amounts: dict[str, float]) -> dict[str, float]:
    return {name: amount for name, amount in amounts.items() if not name.startswith("node:") and "memory" not in name}
