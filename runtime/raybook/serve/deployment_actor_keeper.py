"""Deployment actor keeper: the actors that a deployment's replicas share, from the controller's side.

They are started before the first replica of their version, replaced when they die, and ended with the last replica of it.
One that is busy is left alone: only its death counts. Invariant: an actor of a version that nobody uses is ended.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any

import cloudpickle

from raybook.api import get_actor, kill
from raybook.serve.core.names import NAMESPACE, DeploymentActorID, DeploymentID
from raybook.serve.core.target import ActorTarget, DeploymentTarget

logger = logging.getLogger("ray.serve")
LOOK_S = 1.0
FAILURES_MAX = 3
"""Starts in a row that failed, after which the deployment has."""


class ActorKeeper:
    """One of them. on_change() is called when it is ready, or not any more."""

    def __init__(self, full_id: str, target: ActorTarget, on_change: Callable[[], None]) -> None:
        self.full_id = full_id
        self.target = target
        self.is_ready = False
        self.failures = 0
        self.error = ""
        self._on_change = on_change
        self._task = asyncio.get_running_loop().create_task(self._run())

    async def _run(self) -> None:
        while self.failures < FAILURES_MAX:
            try:
                handle = self._start()
                await handle.__ray_ready__.remote()
                self.is_ready, self.failures, self.error = True, 0, ""
                self._on_change()
                while True:
                    await asyncio.sleep(LOOK_S)
                    await handle.__ray_ready__.remote()
            except asyncio.CancelledError:
                raise
            except Exception as error:  # noqa: BLE001 - its constructor raised, or it died; status says why.
                logger.warning("The actor %s is started anew: %s", self.full_id, error)
                self.failures += 1
                self.is_ready, self.error = False, str(error)
                _end(self.full_id)
                self._on_change()
                await asyncio.sleep(min(5.0, 0.25 * 2**self.failures))

    def _start(self) -> Any:
        actor_class, args, kwargs = cloudpickle.loads(self.target.code)
        options = {**self.target.options, "name": self.full_id, "namespace": NAMESPACE, "lifetime": "detached",
                   "get_if_exists": True, "max_restarts": 0}  # fmt: skip
        return actor_class.options(**options).remote(*args, **kwargs)

    def stop(self) -> None:
        """End it."""
        self._task.cancel()
        _end(self.full_id)


class DeploymentActors:
    """All those of one deployment."""

    def __init__(self, deployment: DeploymentID, on_change: Callable[[], None]) -> None:
        self._deployment = deployment
        self._on_change = on_change
        self._keepers: dict[str, ActorKeeper] = {}
        self._former: set[str] = set()
        """Of a former controller, for versions that only old replicas use."""

    def full_ids(self) -> list[str]:
        """Of those that may be alive."""
        return [*self._keepers, *self._former]

    def adopt(self, full_id: str) -> None:
        """One that a former controller started."""
        self._former.add(full_id)

    def are_ready(self, target: DeploymentTarget) -> bool:
        """Whether all of a target's actors run; those that there are not are started."""
        ready = True
        for actor in target.actors:
            full_id = DeploymentActorID(actor.name, self._deployment, target.code_version).to_full_id_str()
            keeper = self._keepers.get(full_id)
            if keeper is None:
                self._former.discard(full_id)
                keeper = self._keepers[full_id] = ActorKeeper(full_id, actor, self._on_change)
            ready &= keeper.is_ready
        return ready

    def failure(self) -> str:
        """Why one cannot be started; "" when none has failed for good."""
        for keeper in self._keepers.values():
            if keeper.failures >= FAILURES_MAX:
                return f"The deployment actor {keeper.target.name!r} failed to start {keeper.failures} times: {keeper.error}"
        return ""

    def keep(self, code_versions: set[str]) -> None:
        """End those of other versions."""
        for full_id, keeper in list(self._keepers.items()):
            if DeploymentActorID.from_full_id_str(full_id).code_version not in code_versions:
                del self._keepers[full_id]
                keeper.stop()
        for full_id in list(self._former):
            if DeploymentActorID.from_full_id_str(full_id).code_version not in code_versions:
                self._former.discard(full_id)
                _end(full_id)


def _end(full_id: str) -> None:
    try:
        kill(get_actor(full_id, NAMESPACE))
    except Exception as error:  # noqa: BLE001 - it is gone already.
        logger.debug("Ending %s: %r", full_id, error)
