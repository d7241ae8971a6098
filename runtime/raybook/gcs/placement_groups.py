"""Placement group desk: the group table's shell. Requests become events, effects become calls of nodes and news.

A node on this very loop (the embedded form) is called at once, and its answer goes back into the table before anybody
else is heard: a group that fits is created inside the call that asks for it. Other nodes are told through their
outboxes, in order. Decides nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

from raybook.base.facts import GROUP_CREATED, GROUP_REMOVED
from raybook.base.resources import Shape
from raybook.base.specs import Bundle, PlacementGroupSpec
from raybook.base.strategies import ANY_BUNDLE, GroupTarget
from raybook.core.cluster import placement_group_events as on
from raybook.core.cluster.placement_groups import GroupRecord, PlacementGroupTable
from raybook.core.cluster.resource_view import ResourceView
from raybook.core.scheduling.bundles import Placing, place_bundles
from raybook.core.scheduling.policy import Choice
from raybook.gcs import records
from raybook.gcs.effects import EffectRunner
from raybook.gcs.ledger import Ledger
from raybook.io.channel import RemoteError
from raybook.io.clock import Clock
from raybook.io.storage import Write
from raybook.protocol.messages import gcs as messages
from raybook.protocol.messages.node import (
    CommitBundles,
    PlacedBundle,
    PrepareBundles,
    PrepareBundlesReply,
    ReturnBundles,
)

Turned = Callable[[messages.PlacementGroupInfo], Awaitable[None]]
"""Called when a group became CREATED or REMOVED."""


class PlacementGroupDesk:
    """``methods``: what of the GCS service is done here, by name. changed: called with the id of a group whose row is
    another one now."""

    def __init__(
        self,
        view: ResourceView,
        clock: Clock,
        ledger: Ledger,
        runner: EffectRunner,
        changed: Callable[[bytes], None],
        turned: Turned,
    ) -> None:
        self.table = PlacementGroupTable(self._place)
        self.methods: dict[str, Callable[[Any], Awaitable[Any]]] = {
            "CreatePlacementGroup": self._create,
            "RemovePlacementGroup": self._remove,
            "GetPlacementGroup": self._get,
            "GetPlacementGroups": self._get_all,
            "WaitPlacementGroup": self._wait,
        }
        self._view = view
        self._clock = clock
        self._ledger = ledger
        self._runner = runner
        self._changed = changed
        self._turned = turned
        self._waiters: dict[bytes, dict[asyncio.Future[None], None]] = {}
        self._next_request = 0

    # ------------------------------------------------------------------ methods

    async def _create(self, request: messages.CreatePlacementGroup) -> messages.PlacementGroupReply:
        is_new = self.table.record(request.spec.group_id) is None
        if is_new:
            self._ledger.must_write()
        self._next_request += 1
        for effect in await self.decide(on.GroupRequested(self._next_request, request.spec)):
            if isinstance(effect, on.RefuseGroup):
                raise RemoteError(effect.code, effect.text)
        if is_new and self._ledger.trouble:
            await self.decide(on.RemovalRequested(request.spec.group_id, self._ledger.trouble))
            self._ledger.must_write()
        return messages.PlacementGroupReply(self.table.info(request.spec.group_id))

    async def _remove(self, request: messages.RemovePlacementGroup) -> messages.Empty:
        await self.decide(on.RemovalRequested(request.group_id, request.reason))
        return messages.Empty()

    async def _get(self, request: messages.GetPlacementGroup) -> messages.PlacementGroupReply:
        if request.group_id:
            return messages.PlacementGroupReply(self.table.info(request.group_id))
        return messages.PlacementGroupReply(self.table.by_name(request.name, request.namespace))

    async def _get_all(self, request: messages.GetPlacementGroups) -> messages.PlacementGroupList:
        return messages.PlacementGroupList(self.table.infos())

    async def _wait(self, request: messages.WaitPlacementGroup) -> messages.PlacementGroupReply:
        info = self.table.info(request.group_id)
        if request.timeout_ms > 0 and (info is None or info.state not in (GROUP_CREATED, GROUP_REMOVED)):
            waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            waiters = self._waiters.setdefault(request.group_id, {})
            waiters[waiter] = None
            await asyncio.wait([waiter], timeout=request.timeout_ms / 1000)
            waiters.pop(waiter, None)
            if not waiters and self._waiters.get(request.group_id) is waiters:
                del self._waiters[request.group_id]
        return messages.PlacementGroupReply(self.table.info(request.group_id))

    # ------------------------------------------------------------------ what others ask and tell

    def load(self, groups: Sequence[GroupRecord]) -> list[Any]:
        """Take over what an earlier GCS wrote down; effects for ``act`` once the nodes are known."""
        return self.table.load(groups, self._clock())

    async def act(self, effects: Sequence[Any]) -> list[Any]:
        """Carry out effects, and what comes of them. Returns answers to requests."""
        answers = []
        while effects:
            await self._persist(effects)
            events = []
            for effect in effects:
                kind = type(effect)
                if kind is on.PublishGroup:
                    await self._publish(effect)
                elif kind in (on.PrepareOn, on.CommitOn, on.ReturnOn):
                    event = await self._tell(effect)
                    if event is not None:
                        events.append(event)
                elif kind in (on.AnswerGroup, on.RefuseGroup):
                    answers.append(effect)
            effects = self.table.handle(events, self._clock()) if events else ()
        return answers

    async def decide(self, *events: Any) -> list[Any]:
        """Tell the table. Returns answers to requests."""
        return await self.act(self.table.handle(events, self._clock()))

    async def room_changed(self) -> None:
        """A node joined or reported."""
        if self.table.has_waiting():
            await self.decide(on.RoomChanged())

    def answer_of(self, node_id: bytes, request: Any, reply: Any) -> Any:
        """The event that a node's answer means; None when it means nothing."""
        if not isinstance(request, PrepareBundles):
            return None
        accepted = isinstance(reply, PrepareBundlesReply) and reply.accepted
        reason = "" if accepted else getattr(reply, "reason", "") or str(reply)
        return on.PrepareAnswered(request.group_id, request.attempt, node_id, accepted, reason)

    def choose(self, target: GroupTarget, refused: Mapping[bytes, str]) -> Choice:
        """Where an actor of this bundle goes. refused: nodes that said their bundle can never hold it, with reasons."""
        info = self.table.info(target.group_id)
        if info is not None and target.index >= len(info.spec.bundles):
            text = f"its placement group has no bundle {target.index}; it has {len(info.spec.bundles)}."
            return Choice(None, text, "ActorUnschedulableError")
        tries = len(info.nodes) if info is not None and target.index == ANY_BUNDLE else 1
        for _ in range(tries):
            node_id, reason, never = self.table.node_for(target.group_id, target.index)
            if node_id is None:
                return Choice(None, reason, "ActorPlacementGroupRemoved" if never else "")
            if node_id not in refused:
                return Choice(node_id)
        return Choice(None, "; ".join(refused.values()))

    # ------------------------------------------------------------------ effects

    def _place(self, spec: PlacementGroupSpec, bundles: Mapping[int, Bundle], taken: Mapping[int, bytes]) -> Placing:
        placing = place_bundles(bundles, spec.strategy, self._view, taken)
        for index, node_id in (placing.plan or {}).items():
            self._view.reserve(node_id, bundles[index].shape)
        return placing

    async def _persist(self, effects: Sequence[Any]) -> None:
        if self._ledger.is_volatile:
            return
        rows: dict[bytes, Write] = {}
        for effect in effects:
            if isinstance(effect, (on.PersistGroup, on.ForgetGroup)):
                rows[effect.group_id] = records.write_group(effect.group_id, self.table.record(effect.group_id))
        if rows:
            await self._ledger.run(list(rows.values()), ())

    async def _publish(self, effect: on.PublishGroup) -> None:
        self._changed(effect.group_id)
        if not effect.turned:
            return
        for waiter in self._waiters.pop(effect.group_id, ()):
            if not waiter.done():
                waiter.set_result(None)
        info = self.table.info(effect.group_id)
        if info is not None:
            await self._turned(info)

    async def _tell(self, effect: Any) -> Any:
        method, request = _request_of(effect)
        local = self._runner.local_channel(effect.node_id)
        if local is None:
            self._runner.send(effect.node_id, method, request)
            return None
        reply = await local.call(method, request)
        if isinstance(effect, on.ReturnOn) and effect.removed and reply.free:
            for _, shape in effect.bundles:
                self._view.give_back(effect.node_id, shape)
            return on.RoomChanged() if self.table.has_waiting() else None
        return self.answer_of(effect.node_id, request, reply)


def _request_of(effect: Any) -> tuple[str, Any]:
    if isinstance(effect, on.PrepareOn):
        bundles = [_placed(bundle) for bundle in effect.bundles]
        return "PrepareBundles", PrepareBundles(effect.group_id, effect.attempt, bundles, effect.commit)
    if isinstance(effect, on.CommitOn):
        return "CommitBundles", CommitBundles(effect.group_id, effect.attempt)
    indices = [index for index, _ in effect.bundles]
    return "ReturnBundles", ReturnBundles(effect.group_id, effect.attempt, indices, effect.removed, effect.reason)


def _placed(bundle: tuple[int, Shape]) -> PlacedBundle:
    return PlacedBundle(bundle[0], dict(bundle[1]))
