"""Actor table: decides which state an actor is in, who has which name, where and how often it lives again.

Knows nothing of sockets, of calls or of values. Node choice is asked of a function handed in. The moves:

    PENDING_CREATION → ALIVE → RESTARTING → ALIVE …           → DEAD from everywhere, and DEAD for ever

Invariants: a name belongs to one living actor; every life has an incarnation of its own, which only grows, and reports
of another one are dropped; an actor that lives or queues on a node is in that node's list; the dead hold no name.
Source: Ray's actor life cycle (RAY.md behaviours 16–27); a life lost while still being created on a node that died
does not count against ``max_restarts``, because nothing of it ever ran to completion.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import msgspec

from raybook.base.facts import ACTOR_ALIVE, ACTOR_DEAD, ACTOR_PENDING, ACTOR_RESTARTING
from raybook.base.specs import ActorSpec, Endpoint
from raybook.base.strategies import group_target
from raybook.core.cluster import actor_events as on
from raybook.core.cluster import actor_record as record_of
from raybook.core.cluster.actor_checks import ActorStatistics, check_books, count_states
from raybook.core.cluster.actor_record import RESTARTS_FOREVER, ActorRecord, label_of, row_of, without_creation
from raybook.core.cluster.actor_watchers import ActorWatchers
from raybook.core.scheduling.policy import Choice
from raybook.protocol.messages.gcs import ActorInfo

MOVES: dict[str, frozenset[str]] = {
    ACTOR_PENDING: frozenset({ACTOR_PENDING, ACTOR_ALIVE, ACTOR_RESTARTING, ACTOR_DEAD}),
    ACTOR_ALIVE: frozenset({ACTOR_RESTARTING, ACTOR_DEAD}),
    ACTOR_RESTARTING: frozenset({ACTOR_RESTARTING, ACTOR_ALIVE, ACTOR_DEAD}),
    ACTOR_DEAD: frozenset(),
}
"""Which state may follow which. A life lost before it was ALIVE is followed by another one in the same state."""

Chooser = Callable[[ActorSpec, Mapping[bytes, str]], Choice]
"""(spec, nodes that refused it) → where to, or why nowhere."""


class ActorTable:
    """The machine; see the module's text. ``dead_max``: how many dead actors are remembered."""

    def __init__(self, choose: Chooser, dead_max: int = 2_000) -> None:
        self._choose = choose
        self._dead_max = dead_max
        self._actors: dict[bytes, ActorRecord] = {}
        self._names: dict[tuple[str, str], bytes] = {}
        # Insertion-ordered dictionaries stand in for sets everywhere: iteration must not depend on hashes.
        self._of_owner: dict[bytes, dict[bytes, None]] = {}
        self._of_job: dict[bytes, dict[bytes, None]] = {}
        self._owners_on_node: dict[bytes, dict[bytes, None]] = {}
        self._on_node: dict[bytes, dict[bytes, None]] = {}
        self._of_group: dict[bytes, dict[bytes, None]] = {}
        self._unplaced: dict[bytes, None] = {}
        self._dead: dict[bytes, None] = {}
        self._watchers = ActorWatchers()
        self._ended_jobs: dict[bytes, str] = {}
        self._effects: list[Any] = []
        self._now_ms = 0
        self._edges: dict[type, Callable[[Any], None]] = {
            on.CreationRequested: self._create,
            on.KillRequested: self._kill,
            on.StateReported: self._report,
            on.PlacementAnswered: self._placement_answered,
            on.OwnerLost: self._owner_lost,
            on.JobEnded: self._job_ended,
            on.NodeJoined: self._node_joined,
            on.NodeLost: self._node_lost,
            on.NodeDraining: self._node_draining,
            on.GroupCreated: self._group_created,
            on.GroupRemoved: self._group_removed,
            on.InventoryTaken: self._inventory,
            on.WatchRequested: self._watch,
        }

    # ------------------------------------------------------------------ the machine

    def handle(self, events: Iterable[Any], now_ms: int) -> list[Any]:
        """Apply events in order; the effects to execute, in order. Cost: about 2 µs an event, plus one choice."""
        self._now_ms = now_ms
        for event in events:
            self._edges[type(event)](event)
        self._give_up_unheard()
        effects, self._effects = self._effects, []
        return effects

    def next_deadline_ms(self) -> int | None:
        """When the first actor that is watched but unknown is given up."""
        return self._watchers.next_deadline_ms()

    # ------------------------------------------------------------------ questions

    def record(self, actor_id: bytes) -> ActorRecord | None:
        return self._actors.get(actor_id)

    def info(self, actor_id: bytes) -> ActorInfo:
        """The actor's row. One that is watched and not known yet is PENDING for a while, because a handle may
        travel faster than the creation; any other unknown one is DEAD, with an explanation."""
        actor = self._actors.get(actor_id)
        if actor is not None:
            return row_of(actor)
        if self._watchers.is_unheard(actor_id):
            return ActorInfo(actor_id, "", ACTOR_PENDING, waiting="The cluster has not heard of this actor yet.")
        return ActorInfo(
            actor_id=actor_id,
            class_name="",
            state=ACTOR_DEAD,
            death=f"Actor {actor_id.hex()} is not known to this cluster: it ended long ago, or was of another one.",
        )

    def by_name(self, name: str, namespace: str) -> ActorSpec | None:
        """The living actor of that name, without the bytes only its worker needs."""
        actor_id = self._names.get((namespace, name))
        return None if actor_id is None else without_creation(self._actors[actor_id].spec)

    def lives_in(self, group_id: bytes) -> bool:
        """Whether an actor lives in this placement group, or waits for it."""
        return group_id in self._of_group

    def rows(self) -> list[ActorInfo]:
        """All rows, oldest actor first."""
        return [row_of(actor) for actor in self._actors.values()]

    def waiting(self) -> list[str]:
        """One line for each actor that no node can hold."""
        return [f"Actor {label_of(a.spec)}: {a.waiting}" for a in map(self._actors.__getitem__, self._unplaced)]

    def without_node(self, queued: Iterable[bytes]) -> list[ActorSpec]:
        """Actors that no node can hold, and of those that queue on one, the ones that have not begun."""
        queued = [key for key in queued if key in self._actors and self._actors[key].state != ACTOR_ALIVE]
        return [self._actors[key].spec for key in dict.fromkeys([*self._unplaced, *queued])]

    def statistics(self) -> ActorStatistics:
        return count_states(self._actors.values(), len(self._names))

    def story(self, key: bytes) -> str:
        """What happened to one actor, a line for each step."""
        actor = self._actors.get(key)
        if actor is None:
            return f"Actor {key.hex()} is not in the table."
        return "\n".join([f"Actor {label_of(actor.spec)} is {actor.state}.", *actor.story])

    def check_invariants(self) -> None:
        check_books(self._actors, self._names, self._on_node, self._unplaced, self._dead)
        self._watchers.check_invariants(self._actors)
        assert len(self._dead) <= self._dead_max, "More dead actors are remembered than allowed."

    # ------------------------------------------------------------------ the store

    def load(self, records: Iterable[ActorRecord]) -> None:
        """Take over what an earlier GCS wrote down. Call before anything else; actors are where they were."""
        for actor in records:
            self._actors[actor.spec.actor_id] = actor
            self._index(actor)

    def resume(self, now_ms: int) -> list[Any]:
        """After ``load``: place what was waiting, repeat placements nobody is known to have taken."""
        self._now_ms = now_ms
        for actor in list(self._actors.values()):
            if actor.state in (ACTOR_PENDING, ACTOR_RESTARTING):
                if actor.node_id:
                    self._repeat_placement(actor)
                else:
                    self._place(actor)
        effects, self._effects = self._effects, []
        return effects

    # ------------------------------------------------------------------ edges: creation and placement

    def _create(self, event: on.CreationRequested) -> None:
        spec, request = event.spec, event.request
        if spec.actor_id in self._actors:
            self._effects.append(on.AnswerCreation(request))  # A repeated request, after a lost reply.
            return
        if spec.name:
            holder = self._names.get((spec.namespace, spec.name))
            if holder is not None:
                self._answer_taken_name(event, self._actors[holder].spec)
                return
        if spec.job_id in self._ended_jobs and not spec.detached:
            text = f"Actor {label_of(spec)} was not created: its job {spec.job_id.hex()} has ended."
            self._effects.append(on.RefuseCreation(request, "RuntimeError", text))
            return
        self._watchers.heard_of(spec.actor_id)
        actor = ActorRecord(spec=spec, state=ACTOR_PENDING)
        self._actors[spec.actor_id] = actor
        self._index(actor)
        actor.tell("created", self._now_ms)
        self._place(actor)
        self._changed(actor)
        self._effects.append(on.AnswerCreation(request))

    def _answer_taken_name(self, event: on.CreationRequested, holder: ActorSpec) -> None:
        if event.get_if_exists:
            self._effects.append(on.AnswerCreation(event.request, without_creation(holder)))
            return
        self._effects.append(on.RefuseCreation(event.request, "ActorAlreadyExistsError", record_of.name_taken(holder)))

    def _place(self, actor: ActorRecord) -> None:
        """Choose a node for the present life, or file the actor as waiting."""
        actor_id = actor.spec.actor_id
        choice = self._choose(actor.spec, actor.refusals)
        actor.accepted = False
        actor.pid = 0
        if choice.code:
            self._unplaced.pop(actor_id, None)
            actor.death_code = choice.code
            self._die(actor, f"The actor can never run: {choice.reason}")
            return
        if choice.node_id is None:
            actor.node_id = b""
            actor.waiting = choice.reason
            self._unplaced[actor_id] = None
            actor.tell(f"waits: {choice.reason}", self._now_ms)
            return
        self._unplaced.pop(actor_id, None)
        actor.waiting = ""
        actor.node_id = choice.node_id
        self._on_node.setdefault(choice.node_id, {})[actor_id] = None
        self._repeat_placement(actor)

    def _repeat_placement(self, actor: ActorRecord) -> None:
        actor.tell(f"placed on node {actor.node_id.hex()} as incarnation {actor.incarnation}", self._now_ms)
        self._effects.append(on.Place(actor.node_id, actor.spec, actor.incarnation, actor.incarnation))

    def _placement_answered(self, event: on.PlacementAnswered) -> None:
        actor = self._living(event.actor_id, event.incarnation)
        if actor is None or actor.node_id != event.node_id or actor.state == ACTOR_ALIVE:
            return
        if event.accepted:
            actor.accepted = True
            return
        self._leave_node(actor)
        if not event.recalled:
            actor.refusals = {**actor.refusals, event.node_id: event.reason}
        actor.tell(f"not kept by node {event.node_id.hex()}: {event.reason}", self._now_ms)
        self._place(actor)
        self._changed(actor)

    def _node_joined(self, event: on.NodeJoined) -> None:
        for actor_id in list(self._unplaced):
            actor = self._actors[actor_id]
            actor.refusals = {node: why for node, why in actor.refusals.items() if node != event.node_id}
            self._place(actor)
            self._changed(actor)

    def _group_created(self, event: on.GroupCreated) -> None:
        for actor_id in list(self._of_group.get(event.group_id, ())):
            if actor_id in self._unplaced:
                actor = self._actors[actor_id]
                self._place(actor)
                self._changed(actor)

    def _group_removed(self, event: on.GroupRemoved) -> None:
        for actor_id in list(self._of_group.get(event.group_id, ())):
            actor = self._actors[actor_id]
            reason = f"The placement group of the actor ({event.group_id.hex()}) was removed: {event.reason}"
            if actor.node_id:
                self._stop(actor, reason, graceful=False)
            actor.death_code = "ActorPlacementGroupRemoved"
            self._life_ended(actor, reason, may_restart=False)

    # ------------------------------------------------------------------ edges: lives and deaths

    def _report(self, event: on.StateReported) -> None:
        report = event.report
        actor = self._living(report.actor_id, report.incarnation)
        if actor is None or not actor.node_id:
            return
        if report.state == ACTOR_ALIVE:
            self._came_alive(actor, report.endpoint, report.pid)
        elif report.state == ACTOR_DEAD:
            actor.death_payload = report.payload
            actor.death_code = report.code
            if actor.moving and not report.creation_failed:
                self._life_ended(actor, record_of.moves_because(actor.moving), may_restart=True, counts=False)
                return
            final = report.intended or report.creation_failed
            self._life_ended(actor, record_of.ended_because(report), may_restart=not final)

    def _came_alive(self, actor: ActorRecord, endpoint: Endpoint | None, pid: int) -> None:
        if actor.state == ACTOR_ALIVE:
            return
        self._move(actor, ACTOR_ALIVE)
        actor.accepted = True
        actor.pid = pid
        actor.death = actor.moving = ""
        actor.info = msgspec.structs.replace(row_of(actor), endpoint=endpoint)
        actor.tell(f"alive with pid {pid}", self._now_ms)
        self._changed(actor)
        if actor.ending:
            self._stop(actor, actor.ending, graceful=True)

    def _kill(self, event: on.KillRequested) -> None:
        actor = self._actors.get(event.actor_id)
        if actor is None or actor.state == ACTOR_DEAD:
            return
        reason = event.reason or record_of.KILLED_BY_USER
        if event.graceful:
            self._end_after_calls(actor, reason)
            return
        if actor.node_id:
            self._stop(actor, reason, graceful=False)
        self._life_ended(actor, reason, may_restart=not event.no_restart)

    def _end_after_calls(self, actor: ActorRecord, reason: str) -> None:
        """The last handle went: calls already submitted still run, then it ends for good. One that is not alive yet is
        stopped when it is: its first calls wait at their caller."""
        if actor.ending:
            return
        actor.ending = reason
        self._release_name(actor)
        actor.tell(f"ends after its queued calls: {reason}", self._now_ms)
        self._changed(actor)
        if actor.state == ACTOR_ALIVE:
            self._stop(actor, reason, graceful=True)

    def _owner_lost(self, event: on.OwnerLost) -> None:
        because = event.reason or "its process ended"
        for actor_id in list(self._of_owner.get(event.client_id, ())):
            self._end_with_creator(self._actors[actor_id], f"The actor is dead because its owner has died: {because}")

    def _job_ended(self, event: on.JobEnded) -> None:
        because = event.reason or "its driver left"
        self._ended_jobs[event.job_id] = because
        for actor_id in list(self._of_job.get(event.job_id, ())):
            self._end_with_creator(self._actors[actor_id], f"The actor is dead because its job has ended: {because}")

    def _end_with_creator(self, actor: ActorRecord, reason: str) -> None:
        if actor.spec.detached or actor.state == ACTOR_DEAD:
            return
        if actor.node_id:
            self._stop(actor, reason, graceful=False)
        self._life_ended(actor, reason, may_restart=False)

    def _node_lost(self, event: on.NodeLost) -> None:
        node = event.node_id
        self._watchers.forget_node(node)
        for client_id in list(self._owners_on_node.get(node, ())):
            self._owner_lost(on.OwnerLost(client_id, f"its node {node.hex()} is gone."))
        for actor_id in list(self._on_node.get(node, ())):
            actor = self._actors[actor_id]
            if actor.state == ACTOR_PENDING:
                self._begin_life(actor, ACTOR_PENDING)
            else:
                reason = f"{record_of.NODE_DIED} Node Id: {node.hex()}: {event.reason}"
                self._life_ended(actor, reason, may_restart=True, counts=not event.drained)

    def _node_draining(self, event: on.NodeDraining) -> None:
        for actor_id in list(self._on_node.get(event.node_id, ())):
            actor = self._actors[actor_id]
            if actor.state != ACTOR_ALIVE:
                self._stop(actor, record_of.moves_because(event.reason), graceful=False)
                self._begin_life(actor, actor.state)
            elif actor.spec.max_restarts and not actor.ending and not actor.moving:
                # Its callers hear of it first, and send no more; what it has been sent, it does before it ends.
                actor.moving = event.reason
                actor.tell(f"leaves its node: {event.reason}", self._now_ms)
                self._changed(actor)
                self._stop(actor, record_of.moves_because(event.reason), graceful=True)

    def _inventory(self, event: on.InventoryTaken) -> None:
        present = frozenset(event.actor_ids)
        for actor_id in list(self._on_node.get(event.node_id, ())):
            actor = self._actors[actor_id]
            if actor.state == ACTOR_ALIVE and actor_id not in present:
                self._life_ended(actor, "Its process ended while the GCS was down.", may_restart=True)
        for actor_id in event.actor_ids:
            known = self._actors.get(actor_id)
            if known is not None and known.state == ACTOR_DEAD:
                self._effects.append(on.StopOn(event.node_id, actor_id, known.incarnation, False, known.death))

    def _life_ended(self, actor: ActorRecord, reason: str, *, may_restart: bool, counts: bool = True) -> None:
        """counts: against ``max_restarts``; an actor that may live again at all survives a drained node, as in Ray."""
        limit = actor.spec.max_restarts
        lives_left = limit == RESTARTS_FOREVER or actor.restarts_used < limit or (limit and not counts)
        if may_restart and lives_left and not actor.ending:
            actor.restarts_used += counts
            actor.tell(f"restarts: {reason}", self._now_ms)
            actor.death = reason  # Until it is alive again: calls that fail meanwhile say why.
            self._begin_life(actor, ACTOR_RESTARTING)
        else:
            self._die(actor, actor.ending or reason)

    def _begin_life(self, actor: ActorRecord, state: str) -> None:
        self._move(actor, state)
        self._leave_node(actor)
        actor.incarnation += 1
        actor.refusals = {}
        actor.death_payload = b""
        self._place(actor)
        self._changed(actor)
        actor.death_code = ""  # Of the life that ended; the next one has not.

    def _die(self, actor: ActorRecord, reason: str) -> None:
        actor_id = actor.spec.actor_id
        self._move(actor, ACTOR_DEAD)
        actor.tell(f"dead: {reason}", self._now_ms)
        actor.death = reason
        actor.waiting = ""
        last_node = actor.node_id
        self._leave_node(actor)
        actor.node_id = last_node  # Where it was, for people.
        self._release_name(actor)
        self._unplaced.pop(actor_id, None)
        owner = actor.spec.owner
        _drop(self._of_owner, owner.client_id, actor_id)
        if owner.client_id not in self._of_owner:
            _drop(self._owners_on_node, owner.node_id, owner.client_id)
        _drop(self._of_job, actor.spec.job_id, actor_id)
        target = group_target(actor.spec.strategy)
        if target is not None:
            _drop(self._of_group, target.group_id, actor_id)
        actor.spec = without_creation(actor.spec)
        self._dead[actor_id] = None
        self._changed(actor)
        while len(self._dead) > self._dead_max:
            oldest = next(iter(self._dead))
            del self._dead[oldest], self._actors[oldest]
            self._watchers.forget_actor(oldest)
            self._effects.append(on.ForgetActor(oldest))

    # ------------------------------------------------------------------ who is told

    def _watch(self, event: on.WatchRequested) -> None:
        for actor_id in event.actor_ids:
            if event.watch:
                self._watchers.add(actor_id, event.node_id, actor_id in self._actors, self._now_ms)
            else:
                self._watchers.remove(actor_id, event.node_id)

    def _give_up_unheard(self) -> None:
        for actor_id, nodes in self._watchers.give_up(self._now_ms):
            self._effects.append(on.Publish(self.info(actor_id), nodes))

    def _changed(self, actor: ActorRecord) -> None:
        """Rebuild the row, write it down, then publish it."""
        actor.info = row_of(actor)
        actor_id = actor.spec.actor_id
        self._effects.append(on.PersistActor(actor_id))
        self._effects.append(on.Publish(actor.info, self._watchers.of(actor_id)))

    def _stop(self, actor: ActorRecord, reason: str, *, graceful: bool) -> None:
        self._effects.append(on.StopOn(actor.node_id, actor.spec.actor_id, actor.incarnation, graceful, reason))

    # ------------------------------------------------------------------ books

    def _living(self, actor_id: bytes, incarnation: int) -> ActorRecord | None:
        """The actor, if this is about its present life."""
        actor = self._actors.get(actor_id)
        if actor is None or actor.state == ACTOR_DEAD or actor.incarnation != incarnation:
            return None
        return actor

    def _move(self, actor: ActorRecord, state: str) -> None:
        assert state in MOVES[actor.state], f"{label_of(actor.spec)}: {actor.state} → {state} is no move."
        actor.state = state

    def _index(self, actor: ActorRecord) -> None:
        spec, actor_id = actor.spec, actor.spec.actor_id
        if actor.state == ACTOR_DEAD:
            self._dead[actor_id] = None
            return
        if spec.name and not actor.ending:
            self._names[(spec.namespace, spec.name)] = actor_id
        self._of_owner.setdefault(spec.owner.client_id, {})[actor_id] = None
        self._owners_on_node.setdefault(spec.owner.node_id, {})[spec.owner.client_id] = None
        self._of_job.setdefault(spec.job_id, {})[actor_id] = None
        target = group_target(spec.strategy)
        if target is not None:
            self._of_group.setdefault(target.group_id, {})[actor_id] = None
        if actor.node_id:
            self._on_node.setdefault(actor.node_id, {})[actor_id] = None
        else:
            self._unplaced[actor_id] = None

    def _release_name(self, actor: ActorRecord) -> None:
        key = (actor.spec.namespace, actor.spec.name)
        if self._names.get(key) == actor.spec.actor_id:
            del self._names[key]

    def _leave_node(self, actor: ActorRecord) -> None:
        if actor.node_id:
            _drop(self._on_node, actor.node_id, actor.spec.actor_id)
            actor.node_id = b""


def _drop(index: dict[bytes, dict[bytes, None]], key: bytes, member: bytes) -> None:
    members = index.get(key)
    if members is not None:
        members.pop(member, None)
        if not members:
            del index[key]
