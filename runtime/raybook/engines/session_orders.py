"""Session orders: what user threads of a thin client hand over, as orders to its session, in the same order.

The core's hands for one direction: records become bodies; what is to be answered is noted, and what has been looked at.
In a turn of the link only. Invariant: an id is looked at once until its value has come.
"""

from __future__ import annotations

import types
from collections.abc import Callable
from typing import Any

from raybook.base.ids import return_id
from raybook.base.specs import STREAMING, Value
from raybook.core.owner.records import (
    CancelCommand,
    CancelWait,
    CreateActorCommand,
    Fulfil,
    FunctionStats,
    HoldRef,
    KillingActor,
    KnowActor,
    Put,
    TakeItem,
    TaskRecord,
    ToRaylet,
    Wait,
)
from raybook.core.owner.wait_set import WaitSet
from raybook.engines.session_mirror import MirroredOwner
from raybook.protocol.messages import session as m
from raybook.protocol.messages.raylet import PublishFacts, Subscribe
from raybook.worker.leading import shut_lock
from raybook.worker.raylet_link import GcsRequest

encode_body = m.encode_body


class Question:
    """One ``Ask`` from a user thread, which waits on ``lock``."""

    __slots__ = ("body", "done", "lock", "told", "what")

    def __init__(self, what: str, body: bytes) -> None:
        self.what = what
        self.body = body
        self.told: m.Told | None = None
        self.done = False
        self.lock = shut_lock()

    def answer(self, told: m.Told | None) -> None:
        if not self.done:
            self.told = told
            self.done = True
            self.lock.release()


class Order:
    """An order as it is."""

    __slots__ = ("message",)

    def __init__(self, message: Any) -> None:
        self.message = message


class OrderWriter:
    """One for each core. calls, questions: what is to be answered, by number."""

    def __init__(self, owner: MirroredOwner, waits: WaitSet) -> None:
        self._owner = owner
        self._waits = waits
        self.calls: dict[int, GcsRequest] = {}
        self.questions: dict[int, Question] = {}
        self._functions: set[bytes] = set()
        self._looked: set[bytes] = set()
        self._next_number = 1
        self._out: list[bytes] = []
        self._to_look: list[bytes] = []
        self._released: list[bytes] = []
        self._encoders: dict[type, Callable[[Any], None]] = {
            bytes: self._released.append,
            TaskRecord: self._on_record,
            Put: lambda event: self._on_value(m.Store, event),
            Fulfil: lambda event: self._on_value(m.Resolve, event),
            HoldRef: self._on_hold,
            TakeItem: self._on_take,
            CreateActorCommand: lambda event: self._send(m.NoteActor(event.actor_id, event.held, event.detached)),
            KnowActor: lambda event: self._send(m.MeetActor(event.actor_id, event.owner_address)),
            KillingActor: lambda event: self._send(m.WillKill(event.actor_id)),
            CancelCommand: lambda event: self._send(m.CancelTask(event.task_id, event.force, event.recursive)),
            Wait: self._on_wait,
            CancelWait: lambda event: self._waits.cancel(event.wait),
            GcsRequest: self._on_gcs_request,
            ToRaylet: self._on_to_raylet,
            Question: self._on_question,
            Order: lambda event: self._send(event.message),
            types.FunctionType: lambda event: event(),
            types.MethodType: lambda event: event(),
        }

    def encode(self, events: list[Any]) -> list[bytes]:
        """The bodies to send."""
        encoders = self._encoders
        released = self._released
        for event in events:
            kind = type(event)
            if released and kind is not bytes:
                self._let_go()
            encoders[kind](event)
        if released:
            self._let_go()
        return self._take_out()

    def _take_out(self) -> list[bytes]:
        if self._to_look:
            ids, self._to_look = self._to_look, []
            self._out.append(encode_body(m.Look(ids)))
        out, self._out = self._out, []
        return out

    def _send(self, message: Any) -> None:
        self._out.append(encode_body(message))

    def _let_go(self) -> None:
        ids = list(self._released)
        self._released.clear()
        values, references = self._owner.objects.values, self._owner.references
        for key in ids:
            values.drop(key)
            references.release(key)
            self._looked.discard(key)
        self._send(m.Release(ids))

    def _on_hold(self, event: HoldRef) -> None:
        self._owner.references.hold(event.ref.object_id)
        self._send(m.Hold(event.ref))

    def _on_record(self, record: TaskRecord) -> None:
        spec = record.spec
        if record.actor_id:
            self._send(
                m.Call(
                    spec, record.actor_id, record.retries_left, record.held, record.submitted_s, record.call_site,
                    record.may_overtake,
                )
            )  # fmt: skip
        else:
            self._introduce(spec.function_key, record.stats)
            self._send(
                m.Submit(
                    spec,
                    record.scheduling_class,
                    record.retries_left,
                    record.held,
                    record.submitted_s,
                    record.call_site,
                )
            )
        if spec.num_returns == STREAMING:
            self._look(return_id(spec.task_id, 1))

    def _introduce(self, key: bytes, stats: FunctionStats) -> None:
        if key not in self._functions:
            self._functions.add(key)
            self._send(m.Function(key, stats.name, stats.function, stats.payload))

    def _on_value(self, kind: type, event: Put | Fulfil) -> None:
        value = event.value
        self._send(kind(event.object_id, value))
        if value.location is None:
            # Whoever asks for it next need not ask the session.
            self._become_ready(event.object_id, Value(value.inline, None, value.error))

    def _on_take(self, event: TakeItem) -> None:
        self._send(m.Take(event.task_id, event.index))
        self._look(return_id(event.task_id, event.index + 1))

    def _on_wait(self, wait: Wait) -> None:
        values = self._owner.objects.values
        missing = self._waits.add(wait, values)
        if wait.done:
            wake(wait)
            return
        for key in missing:
            self._look(key)

    def _look(self, key: bytes) -> None:
        if key not in self._looked and key not in self._owner.objects.values:
            self._looked.add(key)
            self._to_look.append(key)

    def _on_gcs_request(self, request: GcsRequest) -> None:
        number = 0
        if request.is_watched or request.on_reply is not None:
            number = self._number()
            self.calls[number] = request
        self._send(m.CallGcs(number, request.method, request.request))

    def _on_to_raylet(self, event: ToRaylet) -> None:
        message = event.message
        if type(message) is PublishFacts:
            self._send(m.Publish(message.facts))
        elif type(message) is Subscribe:
            self._send(m.Follow(message.active))

    def _on_question(self, question: Question) -> None:
        number = self._number()
        self.questions[number] = question
        if self._to_look:
            # What is looked at before the question is looked at by the session before it, too.
            ids, self._to_look = self._to_look, []
            self._send(m.Look(ids))
        self._send(m.Ask(number, question.what, question.body))

    def _number(self) -> int:
        self._next_number += 1
        return self._next_number

    # What came back

    def arrived(self, key: bytes, value: Value) -> None:
        """The session told of an object."""
        self._looked.discard(key)
        self._become_ready(key, value)

    def _become_ready(self, key: bytes, value: Value) -> None:
        self._owner.objects.values.add(key, value)
        if key in self._waits.waiting:
            for wait in self._waits.ready(key, value.error is not None):
                wake(wait)

    def abandon(self) -> None:
        """No answer will come."""
        calls, self.calls = self.calls, {}
        for request in calls.values():
            request.answer(None)
        questions, self.questions = self.questions, {}
        for question in questions.values():
            question.answer(None)


def wake(wait: Wait) -> None:
    if wait.callback is not None:
        wait.callback()
    elif wait.lock is not None:
        wait.lock.release()
