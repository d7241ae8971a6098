"""Session core: what a core process is to the native engine, for a thin client: the owner is behind a network.

Has the same names as ``worker/core_process``, as far as the engine uses them. The records that user threads hand over become
orders to the session (``protocol/messages/session``), in the same order; answers fill a mirror of those values that somebody
here has looked at. Decides nothing: what a record does is decided by the session's owner machine, when a connection is made
by ``core/session/client``.

Invariants: only turns of the link touch the mirror's waits; a value leaves the mirror when a reference to it goes or the
mirror is full, and is then looked at again by whoever needs it.
"""

from __future__ import annotations

import _thread
import logging
import sys
import threading
import time
import types
from collections.abc import Callable, Iterable
from typing import Any

from raybook.base.errors import SessionLostError
from raybook.base.ids import IdFactory
from raybook.core.owner.records import (
    ToRaylet,
    Wait,
)
from raybook.core.owner.wait_set import WaitSet
from raybook.core.session.client import OPEN
from raybook.engines.session_mirror import MirroredOwner, NoFacts
from raybook.engines.session_orders import Order, OrderWriter, Question, wake
from raybook.engines.session_transfers import Transfers
from raybook.io.transport import FramedSocket, Security
from raybook.protocol.messages import session as m
from raybook.protocol.messages.output import WorkerLines
from raybook.protocol.messages.raylet import FactsDelta, GcsReply
from raybook.session.client_link import ClientLink
from raybook.worker.baton import Baton
from raybook.worker.deferred_signals import DeferredSignals
from raybook.worker.doorbell import Doorbell
from raybook.worker.leading import Leading
from raybook.worker.raylet_link import GcsRequest

LOST_CODE = "SessionLostError"
STOP_S = 3.0
LINGER_S = 0.1

logger = logging.getLogger(__name__)


class SessionCore:
    """One membership of a thin client in one session. first: the welcomed connection."""

    def __init__(
        self, address: str, token: bytes, knock: m.Knock, first: tuple[FramedSocket, m.Welcome, list[Any]],
        security: Security | None = None,
    ) -> None:  # fmt: skip
        self.registered = self.welcome = welcome = first[1]
        self.config = welcome.config
        self.me = welcome.me
        self.client_id = welcome.me.client_id
        self.address = welcome.me.address
        self.ids = IdFactory(self.client_id, welcome.first_number)
        self.lost_reason = ""
        self.lost_code = ""
        self.on_log: Callable[[str], None] = _print_line
        self.on_cluster_lost: Callable[[str], None] = lambda reason: None
        self.fact_listeners: list[Callable[[FactsDelta], None]] = []
        self.raylet_handlers: dict[type, Callable[[Any], None]] = {}
        self.facts = NoFacts()
        self.owner = MirroredOwner(self._explain)
        self.is_ending = False
        self._stopping = False
        self._goodbye = m.Goodbye(True)
        self._stop_reason = ""
        self.baton = Baton()
        self.doorbell = bell = Doorbell(self.baton)
        self.queue = bell.queue
        self.deferred = DeferredSignals(bell.ring)
        self.transfers = Transfers(lambda order: self.submit(Order(order)))
        self.tickets = _Tickets(self)
        self.noted: set[bytes] = set()
        """Actors whose handles the session has."""
        self._waits = WaitSet()
        self._writer = OrderWriter(self.owner, self._waits)
        self._link = self.unfinished = ClientLink(
            address, token, knock, first, bell, self._encode, self._deliver, self._say, self._ended, self._has_signals,
            security,
        )  # fmt: skip
        self.awaited = self._waits.waiting
        self.leading = Leading(self, self._link.turn, self._fail, self.deferred)  # type: ignore[arg-type]
        self._thread = threading.Thread(target=self._run, name="raybook-io", daemon=True)
        self._handlers: dict[type, Callable[[Any], None]] = {
            m.Arrived: self._on_arrived,
            m.GcsAnswered: self._on_gcs_answered,
            m.Told: self._on_told,
            m.FactsChanged: self._on_facts,
            m.Printed: self._on_printed,
            m.Logged: lambda message: self.on_log(message.text),
            m.Uploaded: self.transfers.on_uploaded,
            m.Sending: self.transfers.on_sending,
            m.Part: self.transfers.on_part,
            m.Credit: self.transfers.on_credit,
            m.ClusterLost: lambda message: self._ended("", message.reason),
        }

    # Called by user threads; names and meanings are the core process's.

    def start(self) -> None:
        self._thread.start()

    def stop(self, ends_session: bool = True) -> None:
        """Leave: what was ordered goes out first, for a moment at most. Idempotent; blocks until it is done."""
        if not self._stopping:
            self._goodbye = m.Goodbye(ends_session)
            self._stop_reason = "This process has left its cluster (shutdown was called)."
            self._stopping = True
            self.doorbell.ring()
            self.baton.unpark()
        if self._thread.is_alive() and threading.current_thread() is not self._thread:
            self._thread.join(STOP_S)

    def close_in_child(self) -> None:
        self._link.close_in_child()

    def lost_error(self) -> Exception:
        return SessionLostError(self.lost_reason)

    def submit(self, event: Any) -> None:
        """Hand an event over. Blocks while far more has been ordered than the network took."""
        self.doorbell.submit(event)
        if self._link.is_full and self.baton.leader != _thread.get_ident():
            self._link.wait_for_room()

    def submit_soon(self, event: Any) -> None:
        """As ``submit``, for what the same thread will probably wait for next."""
        self.doorbell.submit_soon(event)
        if self._link.is_full and self.baton.leader != _thread.get_ident():
            self._link.wait_for_room()

    def wait_for(self, event: Any, timeout_s: float | None = None) -> bool:
        """Hand an event over and wait until it is done; False on time-out, and when the session is lost."""
        return self.leading.wait_for(event, timeout_s)

    def submit_call(self, function: Callable[[], None]) -> None:
        self.submit(function)

    def call_gcs(self, method: str, request: bytes) -> GcsReply:
        call = GcsRequest(method, request)
        self.wait_for(call)
        return call.reply or GcsReply(0, error_code=LOST_CODE, error_text=self.lost_reason)

    def send_gcs(self, method: str, request: bytes) -> None:
        self.submit(GcsRequest(method, request, is_watched=False))

    def send_raylet(self, message: Any) -> None:
        self.submit(ToRaylet(message))

    def ask(self, what: str, body: bytes = b"", timeout_s: float | None = None) -> m.Told | None:
        """Ask the session; None when the time is up. SessionLostError."""
        question = Question(what, body)
        self.wait_for(question, timeout_s)
        if question.done and question.told is None:
            raise self.lost_error()
        return question.told

    def forget_code(self, key: bytes) -> None:
        """The session keeps the code that it has."""

    @property
    def is_connected(self) -> bool:
        return self._link.machine.state == OPEN

    def _explain(self, key: bytes) -> str:
        """For a second at most."""
        told = self.ask(m.EXPLAIN, key, timeout_s=1.0)
        if told is None:
            return "the session does not answer now; the connection may be lost"
        return told.body.decode() or told.error_text

    # The loop

    def _run(self) -> None:
        """The I/O thread; as the core process's."""
        baton, link = self.baton, self._link
        baton.take_up()
        try:
            link.open()
            while not self._stopping:
                link.turn()
                if (baton.is_claimed or (baton.is_wanted and self._is_quiet())) and not self._stopping:
                    baton.lay_down()
                    baton.wait_until_needed()
                    baton.take_up()
                    self.doorbell.left_to_lie = 0
            link.drain(self._goodbye)
        except Exception:  # noqa: BLE001 - it is logged, and ends this process's membership.
            self._fail()
        finally:
            link.finish(self._stop_reason)
        # A thread may have looked for the end just before it, and have handed its event over just after.
        time.sleep(LINGER_S)
        link.refuse_rest()

    def _fail(self) -> None:
        logger.exception("The I/O loop of raybook failed; this process leaves its session.")
        self._stop_reason = "raybook's I/O loop failed; its traceback is in the log. Please report it."
        self._stopping = True
        self._ended("", self._stop_reason)

    def _is_quiet(self) -> bool:
        return not (self.queue or self.unfinished or self.awaited or self.is_ending)

    def _has_signals(self) -> bool:
        return bool(self.deferred.noted) or self._stopping

    def _encode(self, events: list[Any]) -> Iterable[bytes]:
        if self.lost_reason:
            for event in events:
                self._refuse(event)
            return ()
        return self._writer.encode(events)

    # Answers

    def _deliver(self, body: bytes) -> None:
        message = m.decode_answer(body)
        self._handlers[type(message)](message)

    def _on_arrived(self, message: m.Arrived) -> None:
        self._writer.arrived(message.object_id, message.value)

    def _on_gcs_answered(self, message: m.GcsAnswered) -> None:
        request = self._writer.calls.pop(message.number, None)
        if request is not None:
            request.answer(GcsReply(message.number, message.reply, message.error_code, message.error_text))

    def _on_told(self, message: m.Told) -> None:
        question = self._writer.questions.pop(message.number, None)
        if question is not None:
            question.answer(message)

    def _on_facts(self, message: m.FactsChanged) -> None:
        delta = FactsDelta(message.since, message.version, message.facts, message.reset)
        for listener in list(self.fact_listeners):
            listener(delta)

    def _on_printed(self, message: m.Printed) -> None:
        handler = self.raylet_handlers.get(WorkerLines)
        if handler is not None:
            handler(WorkerLines(message.lines))

    def _say(self, text: str) -> None:
        self.on_log(text)

    # The end

    def _ended(self, code: str, text: str) -> None:
        """In a turn: nothing will come any more; whoever waits finds out why."""
        if self.lost_reason:
            return
        self.lost_code, self.lost_reason = code, text
        self.is_ending = True
        self.on_cluster_lost(text)
        for wait in self._waits.abandon():
            wake(wait)
        self._writer.abandon()
        self.transfers.fail_all(LOST_CODE, text)
        # What was appended and not looked at yet is refused when it is.
        self.doorbell.submit(_nothing)

    def _refuse(self, event: Any) -> None:
        kind = type(event)
        if kind is Wait:
            wake(event)
        elif kind is GcsRequest or kind is Question:
            event.answer(None)
        elif kind is types.FunctionType or kind is types.MethodType:
            event()


class _Tickets:
    def __init__(self, core: SessionCore) -> None:
        self._core = core

    def abandon(self, ticket: Any) -> None:
        """An upload will not become an object."""
        self._core.submit(Order(m.DropUpload(ticket.number)))


def _nothing() -> None:
    pass


def _print_line(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
