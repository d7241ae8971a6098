"""Replica keeper: one replica from the controller's side: started, watched, told, stopped.

It turns orders into actor calls and their outcomes into a state; what should exist is not its business. Tells its
deployment of each change by one callback. Invariant: a replica that has left RUNNING never comes back to it.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from typing import Any

from raybook.api import NodeAffinitySchedulingStrategy, PlacementGroupSchedulingStrategy, kill, remote
from raybook.api.placement_group import PlacementGroup, placement_group, remove_placement_group
from raybook.exceptions import ActorDiedError, RayTaskError
from raybook.serve.core.names import NAMESPACE, DeploymentID, ReplicaID
from raybook.serve.core.statuses import ReplicaState
from raybook.serve.core.target import DeploymentTarget, ReplicaRecord, Settings
from raybook.serve.replica import Replica, options_of

logger = logging.getLogger("ray.serve")
UNHEALTHY_AFTER = 3
"""Failed health checks in a row, as in Ray."""


class ReplicaKeeper:
    """on_change(keeper) is called on the controller's loop whenever its state or health changes. until_unknown(): until no
    caller counts on it any more."""

    def __init__(
        self,
        target: DeploymentTarget,
        record: ReplicaRecord,
        handle: Any,
        on_change: Callable[[ReplicaKeeper], None],
        until_unknown: Callable[[], Awaitable[None]],
    ) -> None:
        self._until_unknown = until_unknown
        self.record = record
        self.target = target
        self.handle = handle
        self.state = ReplicaState.STARTING
        self.settings: Settings | None = None
        self.error = ""
        self.is_dead = False
        self.is_unhealthy = False
        self.facts: dict[str, Any] = {}
        self.placed_on = ""
        """The node it had to be on, where there is a limit a node."""
        self.models: tuple[str, ...] = ()
        self.begun_s = time.monotonic()
        self._group: PlacementGroup | None = None
        self._on_change = on_change
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def id(self) -> ReplicaID:
        """Its name."""
        record = self.record
        return ReplicaID(record.unique_id, DeploymentID(record.deployment, record.app_name))

    @property
    def node_id(self) -> str:
        """Where it runs, once it does."""
        return self.facts.get("node_id", "")

    def is_current(self, target: DeploymentTarget) -> bool:
        """Whether it runs the code that the deployment should have."""
        return self.record.code_version == target.code_version

    # Birth

    @classmethod
    def start(
        cls,
        target: DeploymentTarget,
        record: ReplicaRecord,
        world_size: int,
        node_id: str | None,
        on_change: Callable[[ReplicaKeeper], None],
        until_unknown: Callable[[], Awaitable[None]],
    ) -> ReplicaKeeper:
        """Create the actor (it is placed when there is room) and call the constructor. node_id: where it must be."""
        keeper = cls(target, record, None, on_change, until_unknown)
        options = {**target.actor_options, **options_of(keeper.id.to_full_id_str(), NAMESPACE)}
        if target.bundles:
            keeper._group = placement_group(
                [dict(bundle) for bundle in target.bundles],
                target.bundle_strategy,
                lifetime="detached",
                bundle_label_selector=target.bundle_labels,
            )
            record.group_id = keeper._group.id.binary()
            options["scheduling_strategy"] = PlacementGroupSchedulingStrategy(
                keeper._group, placement_group_bundle_index=0, placement_group_capture_child_tasks=True
            )
        elif node_id is not None:
            options["scheduling_strategy"] = NodeAffinitySchedulingStrategy(node_id, soft=False)
            keeper.placed_on = node_id
        keeper.handle = remote(**options)(Replica).remote(keeper.id.to_full_id_str(), record.code_version)
        keeper._begin(keeper._initialize(world_size))
        return keeper

    @classmethod
    def adopt(
        cls,
        target: DeploymentTarget,
        record: ReplicaRecord,
        handle: Any,
        on_change: Callable[[ReplicaKeeper], None],
        until_unknown: Callable[[], Awaitable[None]],
    ) -> ReplicaKeeper:
        """One that runs since before this controller."""
        keeper = cls(target, record, handle, on_change, until_unknown)
        keeper.state = ReplicaState.RECOVERING
        keeper._begin(keeper._recover())
        return keeper

    def _begin(self, coroutine: Any) -> None:
        task = asyncio.get_running_loop().create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _initialize(self, world_size: int) -> None:
        target = self.target
        try:
            self.facts = await self.handle.initialize.remote(
                target.blob_key, target.settings, self.record.rank, world_size, target.is_routed
            )
        except asyncio.CancelledError:
            raise
        except Exception as error:  # noqa: BLE001 - whatever the constructor raised is the reason that status gives.
            self._fail(_words(error))
            return
        self.settings = target.settings
        self._run()

    async def _recover(self) -> None:
        try:
            self.facts = await asyncio.wait_for(_await(self.handle.facts.remote()), 30.0)
        except asyncio.CancelledError:
            raise
        except Exception as error:  # noqa: BLE001 - it does not answer, so it is none of ours any more.
            self._fail(_words(error))
            return
        self.settings = self.facts.pop("settings")
        self._run()

    def _run(self) -> None:
        if self.state in (ReplicaState.STARTING, ReplicaState.RECOVERING):
            self.state = ReplicaState.RUNNING
            self._begin(self._watch())
            self._begin(self._check_health())
            self._on_change(self)

    def _fail(self, words: str) -> None:
        if self.state in (ReplicaState.STOPPING, ReplicaState.STOPPED):
            return
        self.error = words
        self.is_dead = True
        self.state = ReplicaState.STOPPED
        self._destroy()
        self._on_change(self)

    # Life

    async def _watch(self) -> None:
        try:
            await self.handle.watch.remote()
        except asyncio.CancelledError:
            raise
        except Exception as error:  # noqa: BLE001 - a call that never ends has ended: the process has.
            if self.state is ReplicaState.RUNNING:
                self._fail(_words(error))
            elif self.state is ReplicaState.STOPPING:
                self._stopped()

    async def _check_health(self) -> None:
        failures = 0
        while self.state is ReplicaState.RUNNING:
            await asyncio.sleep(self.target.health_check_period_ms / 1000)
            if self.state is not ReplicaState.RUNNING:
                return
            try:
                await asyncio.wait_for(
                    _await(self.handle.check_health.remote()), self.target.health_check_timeout_ms / 1000
                )
                failures = 0
            except asyncio.CancelledError:
                raise
            except Exception as error:  # noqa: BLE001 - the user's check raised, or did not answer in time.
                failures += 1
                logger.warning("Health check %d of %s failed: %r", failures, self.id, error)
                if failures >= UNHEALTHY_AFTER and self.state is ReplicaState.RUNNING:
                    self.is_unhealthy = True
                    self._fail(f"{failures} health checks in a row failed, the last with {_words(error)}")

    def reconfigure(self, target: DeploymentTarget, rank: int, world_size: int) -> None:
        """Tell it its new settings."""
        self.target = target
        self.settings = target.settings
        self.record.rank = rank
        self._begin(self._reconfigure(rank, world_size))

    async def _reconfigure(self, rank: int, world_size: int) -> None:
        try:
            await self.handle.reconfigure.remote(self.target.settings, rank, world_size)
        except asyncio.CancelledError:
            raise
        except Exception as error:  # noqa: BLE001 - the user's reconfigure raised.
            self._fail(_words(error))
            return
        self._on_change(self)

    # Death

    def stop(self, is_deleted: bool = False) -> None:
        """Let it finish what it has, for at most its graceful_shutdown_timeout_s, then end it."""
        if self.state in (ReplicaState.STOPPING, ReplicaState.STOPPED):
            return
        was_running = self.state is ReplicaState.RUNNING
        self.state = ReplicaState.STOPPING
        if was_running:
            self._begin(self._drain(is_deleted))
        else:
            self._stopped()

    async def _drain(self, is_deleted: bool) -> None:
        try:
            if not is_deleted:
                await self._until_unknown()
            await asyncio.wait_for(
                _await(self.handle.prepare_for_shutdown.remote(is_deleted)),
                self.target.graceful_shutdown_timeout_ms / 1000,
            )
        except asyncio.CancelledError:
            raise
        except Exception as error:  # noqa: BLE001 - it took too long, or is dead: it is ended in any case.
            logger.info("%s did not end by itself: %r", self.id, error)
        self._stopped()

    def _stopped(self) -> None:
        if self.state is ReplicaState.STOPPED:
            return
        self.state = ReplicaState.STOPPED
        self._destroy()
        self._on_change(self)

    def _destroy(self) -> None:
        try:
            kill(self.handle)
        except Exception as error:  # noqa: BLE001 - it is gone already, or will be with its node.
            logger.debug("Killing %s: %r", self.id, error)
        if self._group is not None:
            remove_placement_group(self._group)
            self._group = None
        current = asyncio.current_task()
        for task in list(self._tasks):
            if task is not current:
                task.cancel()


async def _await(ref: Any) -> Any:
    return await ref


def _words(error: BaseException) -> str:
    """Why, for status: the user's traceback where there is one."""
    if isinstance(error, RayTaskError):
        return str(error).strip()
    if isinstance(error, ActorDiedError):
        return f"The replica's process ended: {error}"
    return f"{type(error).__name__}: {error}"
