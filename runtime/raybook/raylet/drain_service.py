"""Drain service: empties this node and has it leave. Message → event → Drain → effects.

Counts what is there, for the machine to decide by; tells the deciders to serve nobody, and the GCS goodbye.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable
from typing import Any

from raybook.core.node import drain as dr
from raybook.core.node import lease_events as le
from raybook.core.node import worker_pool as wp
from raybook.core.node.lease_table import WorkerState
from raybook.io.channel import RemoteError
from raybook.protocol.messages.gcs import UnregisterNode
from raybook.protocol.messages.node import DrainRaylet, DrainRayletReply
from raybook.raylet.clients import DRIVER, ClientTable
from raybook.raylet.effects import NodeDecider
from raybook.raylet.gcs_link import GcsLink
from raybook.raylet.store_service import StoreService

logger = logging.getLogger(__name__)

CALLS_ON_THEIR_WAY_S = 0.1
"""Callers of an actor that is to move hear of it before the actor does; what they sent meanwhile arrives within this."""
GOODBYE_TIMEOUT_S = 1.0


class DrainService:
    """One a raylet. begun(why): the node takes no more work. leave(why): it is to end."""

    def __init__(
        self,
        node_id: bytes,
        decider: NodeDecider,
        clients: ClientTable,
        store: StoreService,
        gcs: GcsLink,
        begun: Callable[[str], None],
        leave: Callable[[str], None],
    ) -> None:
        self._node_id = node_id
        self._decider = decider
        self._clients = clients
        self._store = store
        self._gcs = gcs
        self._begun = begun
        self._leave = leave
        self._machine = dr.Drain()
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        self._rejection = ""

    @property
    def why(self) -> str:
        """Why it drains; "" when it does not."""
        return self._machine.why

    def waiting(self) -> list[str]:
        """For ``status``."""
        return self._machine.waiting()

    def requested(self, request: DrainRaylet) -> DrainRayletReply:
        """The GCS asks."""
        self._rejection = ""
        self._decide(dr.DrainRequested(request.reason, request.message, request.deadline_ms, self._load()))
        return DrainRayletReply(not self._rejection, self._rejection, self._machine.why)

    def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def _decide(self, *events: Any) -> None:
        effects = self._machine.handle(events, int(self._loop.time() * 1000))
        for effect in effects:
            if isinstance(effect, dr.AnswerDrain):
                self._rejection = effect.rejection
            elif isinstance(effect, dr.StopServing):
                logger.info("The node drains: %s.", effect.why)
                self._decider.lease(le.NodeDraining(effect.why))
                self._decider.workers(wp.PoolClosing())
                self._begun(effect.why)
            else:
                self._gcs.spawn(self._say_goodbye(effect.why))
        self.close()
        deadline_ms = self._machine.next_deadline_ms()
        if deadline_ms is not None:
            self._timer = self._loop.call_at((deadline_ms + 1) / 1000, self._look)

    def _look(self) -> None:
        self._decide(dr.Looked(self._load()))

    def _load(self) -> dr.NodeLoad:
        states = [state for _, state, _, _ in self._decider.leases.worker_states()]
        owners = [
            owner for owner in self._store.owners() if owner != self._node_id and self._clients.get(owner) is None
        ]
        return dr.NodeLoad(
            tasks=states.count(WorkerState.LEASED.value),
            actors=states.count(WorkerState.ACTOR.value),
            drivers=sum(client.kind == DRIVER for client in self._clients),
            workers=states.count(WorkerState.IDLE.value) + states.count(WorkerState.ENDING.value),
            owners=len(owners),
            files=self._files_of_others(),
        )

    def _files_of_others(self) -> int:
        """Files of objects whose owners live on other nodes; their names begin with the owner's id."""
        try:
            names = os.listdir(self._store.spill_folder)
        except FileNotFoundError:  # Nothing has been moved to disk, ever.
            return 0
        return sum(self._clients.get(bytes.fromhex(name.partition("-")[0])) is None for name in names)

    async def _say_goodbye(self, why: str) -> None:
        request = UnregisterNode(self._node_id, f"it was drained ({why}).")
        try:
            await asyncio.wait_for(self._gcs.call("UnregisterNode", request), GOODBYE_TIMEOUT_S)
        except (RemoteError, ConnectionError, TimeoutError, asyncio.TimeoutError) as error:
            logger.warning("The GCS did not take this node's goodbye, and will find out by itself: %s", error)
        self._leave(f"it was drained ({why})")
