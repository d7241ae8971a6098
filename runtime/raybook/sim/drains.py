"""Drains: a simulated raylet that empties its node and leaves. As ``raylet/drain_service``, around the shipped machine.

Counts what is there, tells the deciders to serve nobody, says goodbye to the GCS and ends. Decides nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from raybook.core.node import drain as dr
from raybook.core.node import lease_events as le
from raybook.core.node import worker_pool as wp
from raybook.core.node.lease_table import WorkerState
from raybook.protocol.messages.gcs import UnregisterNode
from raybook.protocol.messages.node import DrainRaylet, DrainRayletReply
from raybook.sim.timeline import Timer

if TYPE_CHECKING:
    from raybook.sim.node import Node

CALLS_ON_THEIR_WAY_US = 100_000
"""As in ``raylet/drain_service``."""
GOODBYE_US = 1_000_000


class DrainService:
    """One a node."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._machine = dr.Drain()
        self._rejection = ""
        self._timer: Timer | None = None
        self._has_left = False

    @property
    def why(self) -> str:
        """Why it drains; "" when it does not."""
        return self._machine.why

    def requested(self, request: DrainRaylet) -> DrainRayletReply:
        """The GCS asks."""
        self._rejection = ""
        self._decide(dr.DrainRequested(request.reason, request.message, request.deadline_ms, self._load()))
        return DrainRayletReply(not self._rejection, self._rejection, self._machine.why)

    def _look(self) -> None:
        self._decide(dr.Looked(self._load()))

    def _decide(self, *events: dr.DrainRequested | dr.Looked) -> None:
        node, timeline = self._node, self._node.world.timeline
        if not node.is_alive:
            return
        for effect in self._machine.handle(events, timeline.now_ms):
            if isinstance(effect, dr.AnswerDrain):
                self._rejection = effect.rejection
            elif isinstance(effect, dr.StopServing):
                node.world.ledger.count("node drained")
                node.tell(node.leases, le.NodeDraining(effect.why))
                node.tell(node.pool, wp.PoolClosing())
            else:
                self._say_goodbye(effect.why)
        self._machine.check_invariants()
        if self._timer is not None:
            self._timer.cancel()
        deadline_ms = self._machine.next_deadline_ms()
        if deadline_ms is not None:
            self._timer = timeline.at((deadline_ms + 1) * 1000, self._look)

    def _load(self) -> dr.NodeLoad:
        node = self._node
        states = [state for _, state, _, _ in node.leases.worker_states()]
        files = [bytes.fromhex(path.partition("-")[0]) for path in node.disk.files]
        return dr.NodeLoad(
            tasks=states.count(WorkerState.LEASED.value),
            actors=states.count(WorkerState.ACTOR.value),
            drivers=sum(client.process.kind == "driver" for client in node.clients.values()),
            workers=states.count(WorkerState.IDLE.value) + states.count(WorkerState.ENDING.value),
            owners=sum(
                owner != node.node_id and owner not in node.clients for owner in node.store.table.pressure().owners
            ),
            files=sum(owner not in node.clients for owner in files),
        )

    def _say_goodbye(self, why: str) -> None:
        node = self._node
        if not self._machine.statistics().is_empty():
            node.world.ledger.count("drained too late")
        else:
            node.world.check.drains.left(node)
        request = UnregisterNode(node.node_id, f"it was drained ({why}).")
        node.gcs.ask("UnregisterNode", request, lambda reply: self._leave(why))
        node.world.timeline.after(GOODBYE_US, self._leave, why)

    def _leave(self, why: str) -> None:
        self._node.stop(f"it was drained ({why})")
