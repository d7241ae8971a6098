"""Actor mover: the shell of ``core/cluster/actor_moves``. Reports in, calls to nodes out, their answers as events."""

from __future__ import annotations

from typing import Any

from raybook.core.cluster.actor_events import PlacementAnswered
from raybook.core.cluster.actor_moves import ActorMoves
from raybook.core.cluster.actor_table import ActorTable
from raybook.core.cluster.resource_view import ResourceView
from raybook.gcs.effects import EffectRunner
from raybook.protocol.messages.gcs import ReportNode
from raybook.protocol.messages.node import RecallActor, RecallActorReply


class ActorMover:
    """One for each GCS."""

    def __init__(self, actors: ActorTable, view: ResourceView, runner: EffectRunner) -> None:
        self._view = view
        self._runner = runner
        self._moves = ActorMoves(actors.record)

    def reported(self, report: ReportNode) -> None:
        """A node said how things stand."""
        for node_id, actor_id, incarnation in self._moves.reported(report.node_id, report.queued_actors, self._view):
            self._runner.send(node_id, "RecallActor", RecallActor(actor_id, incarnation))

    def forget(self, node_id: bytes) -> None:
        """It is dead."""
        self._moves.forget(node_id)

    @staticmethod
    def answer_of(node_id: bytes, request: Any, reply: Any) -> PlacementAnswered | None:
        """The event that a node's answer means; None when it means nothing."""
        if isinstance(request, RecallActor) and isinstance(reply, RecallActorReply) and reply.recalled:
            reason = "another node has room."
            return PlacementAnswered(request.actor_id, request.incarnation, node_id, False, reason, recalled=True)
        return None
