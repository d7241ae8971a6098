"""The raylet's control service: what the GCS asks of a node, by the method names of protocol/messages/node."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from raybook.base.resources import describe
from raybook.base.strategies import group_target
from raybook.core.node import lease_events as le
from raybook.io.channel import RemoteError
from raybook.protocol.messages import node as messages
from raybook.protocol.messages.gcs import Empty
from raybook.raylet.drain_service import CALLS_ON_THEIR_WAY_S

if TYPE_CHECKING:
    from raybook.raylet.service import Raylet


class NodeService:
    """Every method may be called twice with the same request: what is done already is not done again."""

    def __init__(self, raylet: Raylet) -> None:
        self._raylet = raylet
        self._methods: dict[str, Callable[[Any], Any]] = {
            "PlaceActor": self._place_actor,
            "StopActor": self._stop_actor,
            "RecallActor": self._recall_actor,
            "PrepareBundles": self._prepare_bundles,
            "CommitBundles": self._commit_bundles,
            "ReturnBundles": self._return_bundles,
            "ActorChanged": self._actor_changed,
            "DeliverLines": self._deliver_lines,
            "SetObserved": self._set_observed,
            "StopNode": self._stop_node,
            "DrainRaylet": lambda request: self._raylet.drain.requested(request),
            "GcsMoved": self._gcs_moved,
            "GetNodeStats": self._get_node_stats,
            "SurveyNode": lambda request: self._raylet.surveys.ask(request),
        }

    async def call(self, method: str, request: Any) -> Any:
        """Answer one request. RemoteError for a method that does not exist."""
        handler = self._methods.get(method)
        if handler is None:
            raise RemoteError("ValueError", f"A raylet has no method {method!r}.")
        answer = handler(request)
        return await answer if inspect.isawaitable(answer) else answer

    def _why_closed(self) -> str:
        """Why nothing new may come here; "" when it may."""
        if self._raylet.is_stopping:
            return "The node is shutting down."
        return f"The node drains: {self._raylet.drain.why}." if self._raylet.drain.why else ""

    def _place_actor(self, request: messages.PlaceActor) -> messages.PlaceActorReply:
        decider = self._raylet.decider
        if closed := self._why_closed():
            return messages.PlaceActorReply(False, closed)
        wanted = le.wanted_by(request.spec)
        target = group_target(request.spec.strategy)
        lacking = decider.leases.pools.missing_for_ever(wanted, target)
        if lacking and target is not None:
            text = f"it asks for {describe(wanted)}, and its bundle lacks {describe(lacking)} of that."
            return messages.PlaceActorReply(False, text)
        if lacking:
            text = f"{request.spec.class_name} asks for {describe(wanted)}; this node lacks {describe(lacking)}."
            return messages.PlaceActorReply(False, text)
        decider.lease(le.ActorRequested(request.spec, request.incarnation, request.restarts))
        return messages.PlaceActorReply(True)

    def _stop_actor(self, request: messages.StopActor) -> Empty:
        event = le.ActorCancelled(request.actor_id, request.incarnation, request.graceful, request.reason)
        if request.graceful and self._raylet.drain.why:
            asyncio.get_running_loop().call_later(CALLS_ON_THEIR_WAY_S, self._raylet.decider.lease, event)
        else:
            self._raylet.decider.lease(event)
        return Empty()

    def _recall_actor(self, request: messages.RecallActor) -> messages.RecallActorReply:
        event = le.ActorCancelled(request.actor_id, request.incarnation, is_recall=True)
        self._raylet.decider.lease(event)
        return messages.RecallActorReply(event.was_queued)

    def _prepare_bundles(self, request: messages.PrepareBundles) -> messages.PrepareBundlesReply:
        if closed := self._why_closed():
            return messages.PrepareBundlesReply(False, closed)
        bundles = [(bundle.index, bundle.shape) for bundle in request.bundles]
        event = le.BundlesRequested(request.group_id, request.attempt, bundles, request.commit)
        self._raylet.decider.lease(event)
        return messages.PrepareBundlesReply(not event.why_refused, event.why_refused)

    def _commit_bundles(self, request: messages.CommitBundles) -> Empty:
        self._raylet.decider.lease(le.BundlesCommitted(request.group_id, request.attempt))
        return Empty()

    def _return_bundles(self, request: messages.ReturnBundles) -> messages.ReturnBundlesReply:
        decider = self._raylet.decider
        if request.removed:
            decider.lease(le.GroupRemoved(request.group_id, request.attempt, request.reason))
        else:
            decider.lease(
                le.BundlesReturned(request.group_id, request.attempt, request.indices, "Its bundle moved away.")
            )
        return messages.ReturnBundlesReply(not decider.leases.pools.is_held(request.group_id))

    def _actor_changed(self, request: messages.ActorChanged) -> Empty:
        self._raylet.gcs.actor_changed(request.actor)
        return Empty()

    def _deliver_lines(self, request: messages.DeliverLines) -> Empty:
        self._raylet.output.deliver_here(request.lines)
        return Empty()

    def _set_observed(self, request: messages.SetObserved) -> Empty:
        self._raylet.set_observed(request.active)
        return Empty()

    def _stop_node(self, request: messages.StopNode) -> Empty:
        asyncio.get_running_loop().call_soon(self._raylet.on_stop, request.reason)
        return Empty()

    def _gcs_moved(self, request: messages.GcsMoved) -> Empty:
        self._raylet.on_gcs_moved(request.address)
        return Empty()

    def _get_node_stats(self, request: messages.GetNodeStats) -> messages.NodeStats:
        return self._raylet.statistics()
