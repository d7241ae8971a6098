"""Actor calls: every actor this process calls or created, each with its ordered stream of calls.

Knows which actors exist for this process and keeps their creation arguments; what becomes of single calls is decided by
the owner machine, to which failed calls are handed. Invariant: an actor is watched exactly as long as it is here.
"""

from __future__ import annotations

from typing import Any

from raybook.base.facts import ACTOR_DEAD
from raybook.base.specs import ErrorValue, RefInfo
from raybook.core.owner.actor_queue import ActorQueue
from raybook.core.owner.borrows import Borrows
from raybook.core.owner.records import CreateActorCommand, KillingActor, KnowActor, TaskRecord, ToRaylet
from raybook.core.owner.reference_counter import ReferenceCounter
from raybook.protocol.messages.raylet import ActorDown, ActorUpdate, WatchActor


class ActorCalls:
    def __init__(self, references: ReferenceCounter, borrows: Borrows, effects: list[Any]) -> None:
        self._references = references
        self._borrows = borrows
        self._effects = effects
        self.queues: dict[bytes, ActorQueue] = {}
        self.touched: dict[bytes, ActorQueue] = {}
        """Streams that changed in this batch."""

    def queue(self, actor_id: bytes) -> ActorQueue:
        """The stream to an actor, about to change; begins watching an actor that is new here."""
        queue = self.queues.get(actor_id)
        if queue is None:
            queue = self.queues[actor_id] = ActorQueue(actor_id)
            self._effects.append(ToRaylet(WatchActor(actor_id)))
        self.touched[actor_id] = queue
        return queue

    def act(self) -> None:
        """Send what can be sent. Called after each batch of events that touched a stream."""
        touched = list(self.touched.values())
        self.touched.clear()
        for queue in touched:
            queue.send_ready(self._effects)

    def on_create(self, command: CreateActorCommand) -> None:
        """This process asked for an actor; its arguments are kept for restarts."""
        self._references.create(command.actor_id)
        for ref in command.held:
            self._borrows.hold(ref)
        queue = self.queue(command.actor_id)
        queue.held = command.held
        queue.creation = command

    def on_know(self, command: KnowActor) -> None:
        """A handle arrived from elsewhere. Without an address: of a detached actor, whose life no count decides."""
        if command.owner_address:
            self._borrows.hold(RefInfo(command.actor_id, command.owner_address))
        else:
            self._references.hold_again(command.actor_id)

    def on_killing(self, command: KillingActor) -> None:
        """This process has an actor killed."""
        self.queue(command.actor_id).hold_back()

    def on_update(self, update: ActorUpdate) -> list[tuple[TaskRecord, ErrorValue]]:
        """The GCS tells an actor's state; the calls that fail by it."""
        if update.actor_id not in self.queues:
            return []
        queue = self.queue(update.actor_id)
        failed = queue.update(update)
        if update.state == ACTOR_DEAD:
            self._release_creation(queue)
        return failed

    def cut_off(self, client_id: bytes, reason: str) -> list[tuple[TaskRecord, ErrorValue]]:
        """The network to a process is broken; the calls that fail by it. What comes next is tried anew."""
        failed = []
        for queue in list(self.queues.values()):
            if queue.endpoint is not None and queue.endpoint.client_id == client_id:
                failed += queue.cut_off(reason)
                self.touched[queue.actor_id] = queue
        return failed

    def out_of_scope(self, actor_id: bytes) -> None:
        """Nobody holds a handle of an actor of ours any more: it ends after its calls, unless it is detached."""
        queue = self.queues.get(actor_id)
        if queue is None:
            return
        command: Any = queue.creation
        if command is not None and command.detached and queue.state != ACTOR_DEAD:
            self._release_creation(queue)
            return  # Others look it up by name, and so may this process.
        del self.queues[actor_id]
        self._effects.append(ToRaylet(WatchActor(actor_id, watch=False)))
        if command is not None and queue.state != ACTOR_DEAD:
            self._effects.append(ToRaylet(ActorDown(actor_id, no_restart=True, graceful=True)))
        self._release_creation(queue)

    def _release_creation(self, queue: ActorQueue) -> None:
        held, queue.held = queue.held, None
        for ref in held or ():
            self._references.drop(ref.object_id)

    def check_invariants(self) -> None:
        for queue in self.queues.values():
            queue.check_invariants()
