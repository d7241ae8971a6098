"""Groups: the shipped placement group table in the simulated GCS, with its rows in a store that outlives a crash.

As ``gcs/placement_groups``: requests become events, effects become calls of nodes and news; what is to be persisted is
written first. A question that waits is answered at once here; whoever asked asks again. Decides nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

import msgspec

from raybook.base.label_selector import matches
from raybook.base.resources import fits
from raybook.base.specs import Bundle, PlacementGroupSpec
from raybook.base.strategies import ANY_BUNDLE, GroupTarget
from raybook.core.cluster import placement_group_events as on
from raybook.core.cluster.placement_groups import GroupRecord, PlacementGroupTable
from raybook.core.cluster.resource_view import ResourceView
from raybook.core.scheduling.bundles import Placing, place_bundles
from raybook.core.scheduling.policy import Choice
from raybook.protocol.messages import gcs as gm
from raybook.protocol.messages import node as nm
from raybook.sim.calls import Refusal

if TYPE_CHECKING:
    from raybook.sim.world import World

_encode, _decode = msgspec.msgpack.encode, msgspec.msgpack.decode
Send = Callable[[bytes, str, Any, Callable[[bytes, Any, Any], None]], None]
"""(node, method, request, told of the answer)."""


class Groups:
    """One life of it. rows: the store. turned: told of groups that became CREATED or REMOVED."""

    def __init__(
        self,
        world: World,
        view: ResourceView,
        rows: dict[bytes, bytes],
        send: Send,
        turned: Callable[[gm.PlacementGroupInfo], None],
    ) -> None:
        self.table = PlacementGroupTable(self._place, fits_on=self._fits_on)
        self.methods: dict[str, Callable[[Any], Any]] = {
            "CreatePlacementGroup": self._create,
            "RemovePlacementGroup": lambda r: self.hear(on.RemovalRequested(r.group_id, r.reason)),
            "GetPlacementGroup": self._get,
            "WaitPlacementGroup": self._get,
        }
        self._world = world
        self._view = view
        self._rows = rows
        self._send = send
        self._turned = turned
        self._next_request = 0
        self._was_refused = False

    def load(self) -> list[Any]:
        """What an earlier life wrote down; effects for ``act`` once the nodes are known."""
        records = [_decode(row, type=GroupRecord) for row in self._rows.values()]
        return self.table.load(records, self._world.timeline.now_ms)

    def hear(self, *events: Any) -> None:
        """Tell the table."""
        self.act(self.table.handle(events, self._world.timeline.now_ms))

    def act(self, effects: Iterable[Any]) -> None:
        """Carry out effects."""
        for effect in effects:
            if isinstance(effect, on.PersistGroup):
                self._rows[effect.group_id] = _encode(self.table.record(effect.group_id))
            elif isinstance(effect, on.ForgetGroup):
                self._rows.pop(effect.group_id, None)
        for effect in effects:
            if isinstance(effect, on.PublishGroup):
                info = self.table.info(effect.group_id) if effect.turned else None
                if info is not None:
                    self._turned(info)
            elif isinstance(effect, (on.PrepareOn, on.CommitOn, on.ReturnOn)):
                self._send(effect.node_id, *_request_of(effect), self._answered)
            elif isinstance(effect, on.RefuseGroup):
                raise Refusal(effect.code, effect.text)
        self._world.check.groups.after_gcs(self.table)

    def room_changed(self, node_id: bytes, has_grown: bool = True) -> None:
        """A node joined or reported."""
        if (has_grown or self._was_refused or self.table.is_behind()) and self.table.has_waiting():
            event = on.RoomChanged() if self._was_refused else on.RoomChanged(node_id)
            self._was_refused = False
            self.hear(event)

    def _fits_on(self, bundle: Bundle, node_id: bytes) -> bool:
        node = self._view.get(node_id)
        return node is not None and fits(bundle.shape, node.available) and matches(bundle.selector, node.labels)

    def choose(self, target: GroupTarget, refused: Mapping[bytes, str]) -> Choice:
        """Where an actor of this bundle goes."""
        info = self.table.info(target.group_id)
        tries = len(info.nodes) if info is not None and target.index == ANY_BUNDLE else 1
        for _ in range(tries):
            node_id, reason, never = self.table.node_for(target.group_id, target.index)
            if node_id is None:
                return Choice(None, reason, "ActorPlacementGroupRemoved" if never else "")
            if node_id not in refused:
                return Choice(node_id)
        return Choice(None, "; ".join(refused.values()))

    def _create(self, request: gm.CreatePlacementGroup) -> gm.PlacementGroupReply:
        self._next_request += 1
        self.hear(on.GroupRequested(self._next_request, request.spec))
        return gm.PlacementGroupReply(self.table.info(request.spec.group_id))

    def _get(self, request: gm.GetPlacementGroup | gm.WaitPlacementGroup) -> gm.PlacementGroupReply:
        return gm.PlacementGroupReply(self.table.info(request.group_id))

    def _place(self, spec: PlacementGroupSpec, bundles: Mapping[int, Bundle], taken: Mapping[int, bytes]) -> Placing:
        placing = place_bundles(bundles, spec.strategy, self._view, taken)
        for index, node_id in (placing.plan or {}).items():
            self._view.reserve(node_id, bundles[index].shape)
        return placing

    def _answered(self, node_id: bytes, request: Any, reply: Any) -> None:
        if isinstance(request, nm.PrepareBundles):
            accepted = isinstance(reply, nm.PrepareBundlesReply) and reply.accepted
            self._was_refused = self._was_refused or not accepted
            reason = "" if accepted else getattr(reply, "reason", "") or str(reply)
            self.hear(on.PrepareAnswered(request.group_id, request.attempt, node_id, accepted, reason))


def _request_of(effect: Any) -> tuple[str, Any]:
    if isinstance(effect, on.PrepareOn):
        bundles = [nm.PlacedBundle(index, dict(shape)) for index, shape in effect.bundles]
        return "PrepareBundles", nm.PrepareBundles(effect.group_id, effect.attempt, bundles, effect.commit)
    if isinstance(effect, on.CommitOn):
        return "CommitBundles", nm.CommitBundles(effect.group_id, effect.attempt)
    indices = [index for index, _ in effect.bundles]
    return "ReturnBundles", nm.ReturnBundles(effect.group_id, effect.attempt, indices, effect.removed, effect.reason)
