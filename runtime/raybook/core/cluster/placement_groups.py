"""Placement group table: decides which groups exist, where their bundles lie, and when all of a group is reserved.

Two phases: nodes are asked to prepare; when all have, they are told to commit, and when one cannot, the others give back
and the group waits. Each try is an attempt with a number of its own, and answers to another one are dropped. Knows
nothing of sockets or of what runs in a bundle; where bundles could go is asked of a function handed in. The moves:

    PENDING → PREPARING → CREATED → RESCHEDULING → PREPARING …      → REMOVED from everywhere, and REMOVED for ever
    PREPARING → PENDING or RESCHEDULING when a node could not, or was lost

Invariants: a name belongs to one group that is not removed; bundles have nodes when and only when they are (or are about
to be) reserved there; CREATED has a node for each bundle, PENDING none; what waits is in the waiting list.
Source: Ray's placement groups (RAY.md behaviours 39–41).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from itertools import islice
from typing import Any

import msgspec

from raybook.base.facts import (
    GROUP_CREATED,
    GROUP_PENDING,
    GROUP_PREPARING,
    GROUP_REMOVED,
    GROUP_RESCHEDULING,
)
from raybook.base.resources import Shape
from raybook.base.specs import Bundle, PlacementGroupSpec
from raybook.core.cluster import placement_group_events as on
from raybook.core.scheduling.bundles import STRICT_PACK, Placing
from raybook.protocol.messages.gcs import PlacementGroupInfo

MOVES: dict[str, frozenset[str]] = {
    GROUP_PENDING: frozenset({GROUP_PREPARING, GROUP_REMOVED}),
    GROUP_PREPARING: frozenset({GROUP_CREATED, GROUP_PENDING, GROUP_RESCHEDULING, GROUP_REMOVED}),
    GROUP_CREATED: frozenset({GROUP_RESCHEDULING, GROUP_REMOVED}),
    GROUP_RESCHEDULING: frozenset({GROUP_PREPARING, GROUP_REMOVED}),
    GROUP_REMOVED: frozenset(),
}
"""Which state may follow which."""

STORY_LINES_MAX = 32
TRIES_MAX = 64
"""So many waiting groups try at each news, the others at the next: a thousand that never fit must not cost a thousand
placings a report."""
NOT_PLACED = b""

Placer = Callable[[PlacementGroupSpec, Mapping[int, Bundle], Mapping[int, bytes]], Placing]
"""(spec, bundles to place, bundle index → node of the others) → a plan, or why there is none."""
FitsOn = Callable[[Bundle, bytes], bool]
"""Whether a node has room for a bundle now."""


class GroupRecord(msgspec.Struct):
    """One group, also as it is stored. ``nodes``: for each bundle the node that holds it (or is asked to), b"" for
    none."""

    spec: PlacementGroupSpec
    state: str = GROUP_PENDING
    attempt: int = 0
    nodes: list[bytes] = []
    asked: dict[bytes, bool] = {}
    """Nodes of the present attempt → whether they have prepared."""
    fresh: list[int] = []
    """Bundles of the present attempt."""
    next_bundle: int = 0
    """Whoever runs in any bundle takes them in turns."""
    waiting: str = ""
    death: str = ""
    created_ms: int = 0
    infeasible: bool = False
    story: list[str] = []


class GroupStatistics(msgspec.Struct, frozen=True):
    pending: int
    created: int
    removed: int
    attempts: int


class PlacementGroupTable:
    """The machine; see the module's text. ``removed_max``: how many removed groups are remembered."""

    def __init__(self, place: Placer, removed_max: int = 1_000, fits_on: FitsOn = lambda bundle, node_id: True) -> None:
        self._place = place
        self._fits_on = fits_on
        self._removed_max = removed_max
        self._groups: dict[bytes, GroupRecord] = {}
        self._names: dict[tuple[str, str], bytes] = {}
        # Insertion-ordered dictionaries stand in for sets everywhere: iteration must not depend on hashes.
        self._waiting: dict[bytes, None] = {}
        self._due: dict[bytes, None] = {}
        """Those that may have room now, and have not tried since."""
        self._on_node: dict[bytes, dict[bytes, None]] = {}
        self._of_job: dict[bytes, dict[bytes, None]] = {}
        self._of_actor: dict[bytes, dict[bytes, None]] = {}
        self._removed: dict[bytes, None] = {}
        self._ended_jobs: dict[bytes, str] = {}
        """What their drivers had said before they were given up may arrive later."""
        self._attempts = 0
        self._effects: list[Any] = []
        self._now_ms = 0
        self._edges: dict[type, Callable[[Any], None]] = {
            on.GroupRequested: self._create,
            on.RemovalRequested: self._removal_requested,
            on.PrepareAnswered: self._answered,
            on.RoomChanged: self._room_changed,
            on.GroupNodeLost: self._node_lost,
            on.CreatorActorDied: self._creator_died,
            on.GroupJobEnded: self._job_ended,
        }

    # ------------------------------------------------------------------ the machine

    def handle(self, events: Iterable[Any], now_ms: int) -> list[Any]:
        """Apply events in order; the effects to execute, in order. Cost: 5 µs an event, plus one placing for each group
        that tries."""
        self._now_ms = now_ms
        for event in events:
            self._edges[type(event)](event)
        effects, self._effects = self._effects, []
        return effects

    def next_deadline_ms(self) -> int | None:
        """Never: groups wait for news, not for time."""
        return None

    # ------------------------------------------------------------------ questions

    def record(self, group_id: bytes) -> GroupRecord | None:
        return self._groups.get(group_id)

    def records(self) -> list[GroupRecord]:
        """All of them, oldest first."""
        return list(self._groups.values())

    def info(self, group_id: bytes) -> PlacementGroupInfo | None:
        """The row that others see; None for a group that was never heard of or was removed long ago."""
        group = self._groups.get(group_id)
        return None if group is None else _row_of(group)

    def infos(self) -> list[PlacementGroupInfo]:
        """All rows, oldest group first."""
        return [_row_of(group) for group in self._groups.values()]

    def by_name(self, name: str, namespace: str) -> PlacementGroupInfo | None:
        """The group of that name, unless it is removed."""
        group_id = self._names.get((namespace, name))
        return None if group_id is None else self.info(group_id)

    def waiting(self) -> list[str]:
        """One line for each group that is not there yet, with the reason."""
        return [f"Placement group {_label(g)}: {g.waiting}" for g in map(self._groups.__getitem__, self._waiting)]

    def unplaced(self) -> list[GroupRecord]:
        """Groups with bundles that have no place, oldest first."""
        return [self._groups[group_id] for group_id in self._waiting]

    def has_waiting(self) -> bool:
        return bool(self._waiting)

    def is_behind(self) -> bool:
        """Whether some groups have had news, and not their turn."""
        return bool(self._due)

    def is_creator(self, actor_id: bytes) -> bool:
        """Whether groups go with this actor."""
        return actor_id in self._of_actor

    def node_for(self, group_id: bytes, index: int) -> tuple[bytes | None, str, bool]:
        """(node of a bundle, or None and why there is none, whether there never will be). index -1: bundles in turns."""
        group = self._groups.get(group_id)
        if group is None:
            return None, f"its placement group {group_id.hex()} is not known here (yet).", False
        if group.state == GROUP_REMOVED:
            return None, f"its placement group {_label(group)} was removed: {group.death}", True
        if group.state != GROUP_CREATED:
            return None, f"its placement group {_label(group)} is {group.state}: {group.waiting}", False
        if index < 0:
            index = group.next_bundle
            group.next_bundle = (index + 1) % len(group.nodes)
        return group.nodes[index], "", False

    def statistics(self) -> GroupStatistics:
        created = sum(group.state == GROUP_CREATED for group in self._groups.values())
        pending = len(self._groups) - created - len(self._removed)
        return GroupStatistics(pending, created, len(self._removed), self._attempts)

    def story(self, key: bytes) -> str:
        """What happened to one group, a line for each step."""
        group = self._groups.get(key)
        if group is None:
            return f"Placement group {key.hex()} is not in the table."
        return "\n".join([f"Placement group {_label(group)} is {group.state}.", *group.story])

    def check_invariants(self) -> None:
        for (namespace, name), group_id in self._names.items():
            group = self._groups[group_id]
            assert group.state != GROUP_REMOVED, f"The removed group {_label(group)} still has a name."
            assert (group.spec.namespace, group.spec.name) == (namespace, name), f"{name} names another group."
        for group_id, group in self._groups.items():
            label, placed = _label(group), [node for node in group.nodes if node]
            assert (group_id in self._removed) == (group.state == GROUP_REMOVED), f"{label} is filed wrongly."
            waits = group.state in (GROUP_PENDING, GROUP_RESCHEDULING)
            assert (group_id in self._waiting) == waits, f"{label} is {group.state}; waiting: {not waits}."
            assert bool(group.asked) == (group.state == GROUP_PREPARING), f"{label} asks while it is {group.state}."
            if group.state in (GROUP_CREATED, GROUP_PREPARING):
                assert len(placed) == len(group.spec.bundles), f"{label} is {group.state} without a place for each."
            elif group.state in (GROUP_PENDING, GROUP_REMOVED):
                assert not placed, f"{label} is {group.state} and has nodes."
            assert (group.state == GROUP_REMOVED) == bool(group.death), f"{label} was removed without a reason."
            for node in placed:
                assert group_id in self._on_node[node], f"{label} is not filed under its node."
        filed = sum(len(groups) for groups in self._on_node.values())
        assert filed == sum(len({n for n in g.nodes if n}) for g in self._groups.values()), "A group is filed twice."
        assert len(self._removed) <= self._removed_max, "More removed groups are remembered than allowed."

    # ------------------------------------------------------------------ the store

    def load(self, records: Iterable[GroupRecord], now_ms: int) -> list[Any]:
        """Take over what an earlier GCS wrote down. Attempts that were under way are called off: nobody knows how far
        they came. Call before anything else; returns effects to execute once the nodes are known."""
        self._now_ms = now_ms
        for group in records:
            self._groups[group.spec.group_id] = group
            if group.state == GROUP_REMOVED:
                self._removed[group.spec.group_id] = None
                continue
            self._index(group)
            for node in group.nodes:
                if node:
                    self._on_node.setdefault(node, {})[group.spec.group_id] = None
            if group.state == GROUP_PREPARING:
                self._call_off(group, "The GCS was started anew.")
            elif group.state != GROUP_CREATED:
                self._waiting[group.spec.group_id] = None
        effects, self._effects = self._effects, []
        return effects

    # ------------------------------------------------------------------ edges

    def _create(self, event: on.GroupRequested) -> None:
        spec = event.spec
        if spec.group_id in self._groups:
            self._effects.append(on.AnswerGroup(event.request))  # A repeated request, after a lost reply.
            return
        holder = self._names.get((spec.namespace, spec.name)) if spec.name else None
        if holder is not None:
            text = (
                f"A placement group with the name {spec.name!r} exists already in namespace {spec.namespace!r} "
                f"({holder.hex()}). Choose another name, look it up with get_placement_group, or remove it first."
            )
            self._effects.append(on.RefuseGroup(event.request, "ValueError", text))
            return
        if spec.job_id in self._ended_jobs and not spec.detached:
            text = (
                f"The placement group was not created: its job {spec.job_id.hex()} has ended: "
                f"{self._ended_jobs[spec.job_id]}"
            )
            self._effects.append(on.RefuseGroup(event.request, "RuntimeError", text))
            return
        group = GroupRecord(spec, nodes=[NOT_PLACED] * len(spec.bundles), created_ms=self._now_ms)
        self._groups[spec.group_id] = group
        self._index(group)
        self._tell(group, f"asked for: {len(spec.bundles)} bundles, {spec.strategy}")
        self._try(group)
        self._changed(group)
        self._effects.append(on.AnswerGroup(event.request))

    def _try(self, group: GroupRecord) -> bool:
        """Begin an attempt if there is room; else the group waits. Whether it began."""
        spec, group_id = group.spec, group.spec.group_id
        taken = {index: node for index, node in enumerate(group.nodes) if node}
        missing = {index: bundle for index, bundle in enumerate(spec.bundles) if index not in taken}
        placing = self._place(spec, missing, taken)
        if placing.plan is None:
            self._waiting[group_id] = None
            if group.waiting != placing.reason:
                group.waiting = placing.reason
                group.infeasible = not placing.possible
                self._tell(group, f"waits: {placing.reason}")
                self._changed(group)
            return False
        self._waiting.pop(group_id, None)
        self._move(group, GROUP_PREPARING)
        group.attempt += 1
        self._attempts += 1
        group.waiting, group.infeasible = "", False
        group.fresh = list(placing.plan)
        by_node: dict[bytes, list[int]] = {}
        for index, node in placing.plan.items():
            group.nodes[index] = node
            by_node.setdefault(node, []).append(index)
            self._on_node.setdefault(node, {})[group_id] = None
        group.asked = dict.fromkeys(by_node, False)
        self._effects.append(on.PersistGroup(group_id))
        for node, indices in by_node.items():
            bundles = tuple((index, spec.bundles[index].shape) for index in indices)
            self._effects.append(on.PrepareOn(node, group_id, group.attempt, bundles, commit=len(by_node) == 1))
        return True

    def _answered(self, event: on.PrepareAnswered) -> None:
        group = self._groups.get(event.group_id)
        if group is None or group.attempt != event.attempt or event.node_id not in group.asked:
            return
        if not event.accepted:
            self._call_off(group, f"node {event.node_id.hex()} could not reserve its part: {event.reason}")
            return
        group.asked[event.node_id] = True
        if not all(group.asked.values()):
            return
        if len(group.asked) > 1:
            for node in group.asked:
                self._effects.append(on.CommitOn(node, event.group_id, group.attempt))
        group.asked, group.fresh = {}, []
        self._move(group, GROUP_CREATED)
        self._tell(group, f"created by attempt {group.attempt}")
        self._changed(group, turned=True)

    def _call_off(self, group: GroupRecord, why: str) -> None:
        """The attempt failed: give back what it may have reserved, and wait."""
        self._give_back(group, group.fresh, removed=False, reason=why)
        group.asked, group.fresh = {}, []
        has_places = any(group.nodes)
        self._move(group, GROUP_RESCHEDULING if has_places else GROUP_PENDING)
        group.waiting = why
        self._waiting[group.spec.group_id] = None
        self._tell(group, f"attempt {group.attempt} called off: {why}")
        self._changed(group)

    def _room_changed(self, event: on.RoomChanged) -> None:
        for group_id in self._waiting:
            if self._may_gain(self._groups[group_id], event.node_id):
                self._due[group_id] = None
        for group_id in list(islice(self._due, TRIES_MAX)):
            del self._due[group_id]
            if group_id in self._waiting:
                self._try(self._groups[group_id])

    def _may_gain(self, group: GroupRecord, node_id: bytes) -> bool:
        """Where only one node has more room, a plan that there was not before has a bundle on it."""
        if not node_id:
            return True
        missing = [bundle for bundle, node in zip(group.spec.bundles, group.nodes, strict=True) if not node]
        if group.spec.strategy == STRICT_PACK:
            missing = [Bundle(_together(missing))]
        return any(self._fits_on(bundle, node_id) for bundle in missing)

    def _removal_requested(self, event: on.RemovalRequested) -> None:
        group = self._groups.get(event.group_id)
        if group is not None:
            self._remove(group, event.reason or "somebody removed it")

    def _node_lost(self, event: on.GroupNodeLost) -> None:
        node = event.node_id
        why = f"its node {node.hex()} is gone: {event.reason}"
        for group_id in list(self._on_node.pop(node, ())):
            group = self._groups[group_id]
            preparing = group.state == GROUP_PREPARING
            group.fresh = [index for index in group.fresh if group.nodes[index] != node]
            group.nodes = [NOT_PLACED if place == node else place for place in group.nodes]
            if preparing:
                self._call_off(group, why)
                continue
            if group.state == GROUP_CREATED:
                self._move(group, GROUP_RESCHEDULING)
                self._waiting[group_id] = None
            group.waiting = why
            self._tell(group, why)
            self._changed(group)
        self._room_changed(on.RoomChanged())

    def _creator_died(self, event: on.CreatorActorDied) -> None:
        for group_id in list(self._of_actor.get(event.actor_id, ())):
            group = self._groups[group_id]
            if not group.spec.detached:
                self._remove(group, f"the actor that made it is dead: {event.reason}")

    def _job_ended(self, event: on.GroupJobEnded) -> None:
        self._ended_jobs[event.job_id] = event.reason
        for group_id in list(self._of_job.get(event.job_id, ())):
            group = self._groups[group_id]
            if not group.spec.detached:
                self._remove(group, f"the job that made it has ended: {event.reason}")

    def _remove(self, group: GroupRecord, reason: str) -> None:
        if group.state == GROUP_REMOVED:
            return
        spec, group_id = group.spec, group.spec.group_id
        self._move(group, GROUP_REMOVED)
        group.death = reason
        group.waiting = ""
        group.asked, group.fresh = {}, []
        self._tell(group, f"removed: {reason}")
        self._waiting.pop(group_id, None)
        if self._names.get((spec.namespace, spec.name)) == group_id:
            del self._names[(spec.namespace, spec.name)]
        _drop(self._of_job, spec.job_id, group_id)
        _drop(self._of_actor, spec.creator_actor, group_id)
        self._removed[group_id] = None
        # Published first: whoever lives in the group hears why it dies before it does.
        self._changed(group, turned=True)
        self._give_back(group, range(len(group.nodes)), removed=True, reason=reason)
        while len(self._removed) > self._removed_max:
            oldest = next(iter(self._removed))
            del self._removed[oldest], self._groups[oldest]
            self._effects.append(on.ForgetGroup(oldest))

    # ------------------------------------------------------------------ books

    def _give_back(self, group: GroupRecord, indices: Iterable[int], *, removed: bool, reason: str) -> None:
        """These bundles have no place any more."""
        group_id = group.spec.group_id
        by_node: dict[bytes, list[int]] = {}
        for index in indices:
            node = group.nodes[index]
            if node:
                by_node.setdefault(node, []).append(index)
                group.nodes[index] = NOT_PLACED
        for node, returned in by_node.items():
            if node not in group.nodes:
                _drop(self._on_node, node, group_id)
            bundles = tuple((index, group.spec.bundles[index].shape) for index in returned)
            self._effects.append(on.ReturnOn(node, group_id, group.attempt, bundles, removed, reason))

    def _changed(self, group: GroupRecord, *, turned: bool = False) -> None:
        group_id = group.spec.group_id
        self._effects.append(on.PersistGroup(group_id))
        self._effects.append(on.PublishGroup(group_id, turned))

    def _move(self, group: GroupRecord, state: str) -> None:
        assert state in MOVES[group.state], f"{_label(group)}: {group.state} → {state} is no move."
        group.state = state

    def _index(self, group: GroupRecord) -> None:
        spec = group.spec
        if spec.name:
            self._names[(spec.namespace, spec.name)] = spec.group_id
        if spec.creator_actor:
            self._of_actor.setdefault(spec.creator_actor, {})[spec.group_id] = None
        else:
            self._of_job.setdefault(spec.job_id, {})[spec.group_id] = None

    def _tell(self, group: GroupRecord, what: str) -> None:
        if len(group.story) >= STORY_LINES_MAX:
            del group.story[1]
        group.story.append(f"{self._now_ms} ms: {what}")


def _row_of(group: GroupRecord) -> PlacementGroupInfo:
    return PlacementGroupInfo(
        spec=group.spec,
        state=group.state,
        nodes=list(group.nodes),
        attempt=group.attempt,
        waiting=group.waiting,
        death=group.death,
        created_ms=group.created_ms,
        infeasible=group.infeasible,
    )


def _together(bundles: Iterable[Bundle]) -> Shape:
    """What one node needs for all of them."""
    shape: Shape = {}
    for bundle in bundles:
        for name, amount in bundle.shape.items():
            shape[name] = shape.get(name, 0) + amount
    return shape


def _label(group: GroupRecord) -> str:
    named = f"{group.spec.name!r} " if group.spec.name else ""
    return f"{named}({group.spec.group_id.hex()})"


def _drop(index: dict[bytes, dict[bytes, None]], key: bytes, member: bytes) -> None:
    members = index.get(key)
    if members is not None:
        members.pop(member, None)
        if not members:
            del index[key]
