"""Life: how long a cluster lives. With which process, and how long without work.

Decides nothing of what ends (``GcsService.request_stop`` does) and watches no process: whoever hosts the GCS does, and says
by ``on_owner`` whether it can change whose cluster this is. Idle is a cluster without drivers, and without actors that
outlived theirs.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from raybook.base.facts import ACTOR_DEAD
from raybook.core.cluster.actor_table import ActorTable
from raybook.core.cluster.job_table import JobTable
from raybook.io.channel import RemoteError
from raybook.io.clock import Clock
from raybook.protocol.messages.daemons import OwnerProcess
from raybook.protocol.messages.gcs import LifeReply, SetLife

LOOK_MS = 1_000
Arm = Callable[[str, "int | None", Callable[[], Awaitable[Any]]], None]


def cannot_change(owner: OwnerProcess | None) -> str:
    """Of a host that has no way to."""
    return "The processes of this cluster watch their owner themselves; start it with `--persist` to keep it."


class LifeDesk:
    """One per GCS. ``on_owner``: makes the cluster another process's, or nobody's; "" when done, else why not.
    ``on_change``: called when what the registry should say is different."""

    def __init__(
        self, jobs: JobTable, actors: ActorTable, clock: Clock, arm: Arm, request_stop: Callable[[str], None]
    ) -> None:
        self._jobs = jobs
        self._actors = actors
        self._clock = clock
        self._arm = arm
        self._request_stop = request_stop
        self.owner: OwnerProcess | None = None
        self.idle_timeout_s = 0.0
        self.idle_since_ms = 0
        self.on_owner: Callable[[OwnerProcess | None], str] = cannot_change
        self.on_change: Callable[[], None] = lambda: None
        self.methods: dict[str, Callable[[Any], Awaitable[Any]]] = {"SetLife": self._set}

    async def _set(self, request: SetLife) -> LifeReply:
        if request.changes_owner:
            owner = OwnerProcess(request.owner_pid, request.owner_start_time, request.kernel_id)
            wanted = owner if request.owner_pid else None
            refused = self.on_owner(wanted)
            if refused:
                raise RemoteError("RuntimeError", refused)
            self.owner = wanted
        if request.idle_timeout_s >= 0:
            self.idle_timeout_s = request.idle_timeout_s
            self.idle_since_ms = 0
            await self._look()
        self.on_change()
        return LifeReply(
            self.owner is None,
            self.owner.kernel_id if self.owner is not None else "",
            self.idle_timeout_s,
            self.idle_since_ms,
        )

    async def _look(self) -> None:
        """Once a second, where there is a timeout."""
        if not self.idle_timeout_s:
            return self._arm("life", None, self._look)
        now_ms = self._clock()
        if self._is_busy():
            since_ms = 0
        else:
            since_ms = self.idle_since_ms or now_ms
        if since_ms != self.idle_since_ms:
            self.idle_since_ms = since_ms
            self.on_change()
        if since_ms and now_ms - since_ms >= self.idle_timeout_s * 1_000:
            self._request_stop(f"nothing has worked on it for {self.idle_timeout_s:g} s")
            return None
        return self._arm("life", now_ms + LOOK_MS, self._look)

    def _is_busy(self) -> bool:
        return bool(self._jobs.running()) or any(info.state != ACTOR_DEAD for info in self._actors.rows())
