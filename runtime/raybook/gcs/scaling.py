"""Scaling desk: what the autoscaler asks and tells, and actors that move to nodes with room. Decides nothing.

The autoscaler looks a few times a second at most, so its answer is put together when it asks. What it says of itself is kept
as long as it goes on saying something, and shown by ``raybook status`` and, as the fact "autoscaler", by panels.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import msgspec

from raybook.base.facts import Fact
from raybook.base.specs import Bundle
from raybook.core.cluster.actor_table import ActorTable
from raybook.core.cluster.cluster_load import ClusterLoadBook
from raybook.core.cluster.node_table import NodeTable
from raybook.core.cluster.placement_groups import PlacementGroupTable
from raybook.core.cluster.resource_view import ResourceView
from raybook.gcs.actor_mover import ActorMover
from raybook.gcs.effects import EffectRunner
from raybook.io.clock import Clock
from raybook.protocol.messages import gcs as messages
from raybook.protocol.messages import scaling

SILENT_MS = 30_000
"""An autoscaler that has said nothing for so long is held for gone; it speaks once in ten seconds at least."""
FACT_KEY = "autoscaler"


class ScalingDesk:
    """call: a method of the GCS itself. tell: facts for whoever looks."""

    def __init__(
        self,
        nodes: NodeTable,
        view: ResourceView,
        actors: ActorTable,
        groups: PlacementGroupTable,
        runner: EffectRunner,
        call: Callable[[str, Any], Awaitable[Any]],
        tell: Callable[[list[Fact]], None],
        clock: Clock,
    ) -> None:
        self._nodes = nodes
        self._view = view
        self._actors = actors
        self._groups = groups
        self._call = call
        self._tell = tell
        self._clock = clock
        self._book = ClusterLoadBook()
        self._mover = ActorMover(actors, view, runner)
        self.answer_of = self._mover.answer_of
        self._status: scaling.AutoscalerStatus | None = None
        self._said_ms = 0
        self.methods: dict[str, Callable[[Any], Awaitable[Any]]] = {
            "GetClusterLoad": self._load,
            "ReportAutoscaler": self._report,
            "GetAutoscaler": self._get,
        }

    def reported(self, report: messages.ReportNode) -> None:
        """A living node said how things stand."""
        self._book.reported(report, self._clock())
        self._mover.reported(report)

    def forget(self, node_id: bytes) -> None:
        """It is dead."""
        self._book.forget(node_id)
        self._mover.forget(node_id)

    async def _load(self, request: scaling.GetClusterLoad) -> scaling.ClusterLoad:
        asked = messages.KvGet(scaling.SCALING_NAMESPACE, scaling.REQUESTED_KEY)
        value = (await self._call("KvGet", asked)).value
        requested = msgspec.msgpack.decode(value, type=list[Bundle]) if value else []
        actors = self._actors.without_node(self._book.queued_actors())
        return self._book.load(
            self._nodes.infos(), self._view, actors, self._groups.unplaced(), requested, self._clock()
        )

    async def _report(self, request: scaling.ReportAutoscaler) -> messages.Empty:
        self._status = request.status
        self._said_ms = self._clock()
        self._tell([Fact(FACT_KEY, FACT_KEY, msgspec.to_builtins(request.status))])
        return messages.Empty()

    async def _get(self, request: scaling.GetAutoscaler) -> scaling.AutoscalerReply:
        is_there = self._status is not None and self._clock() - self._said_ms < SILENT_MS
        return scaling.AutoscalerReply(await self._load(scaling.GetClusterLoad()), self._status if is_there else None)
