"""Core process: the I/O loop of a driver or worker. It alone touches the sockets and drives the owner machine.

One thread at a time turns the loop: the I/O thread, or one that waits for something (see ``baton``). User threads hand
over records by appending to a deque and wake whoever sleeps in the loop. Who waits and does not lead waits on a raw lock,
which a SIGINT interrupts at once; who leads defers signals. So no interrupt can tear the owner's tables, and no finalizer
can deadlock on them. Policy-free: message → event → machine → effects.
"""

from __future__ import annotations

import contextlib
import logging
import os
import select
import sys
import threading
import time
import types
from collections.abc import Callable
from typing import Any

import msgspec

from raybook.base.config import Config
from raybook.base.errors import LocalRayletDiedError
from raybook.base.ids import IdFactory, random_id
from raybook.base.specs import Endpoint
from raybook.core.owner.locality import Locality
from raybook.core.owner.owner import Owner
from raybook.core.owner.records import (
    FreeOwn,
    FromRaylet,
    GiveBackIdle,
    LogLine,
    LookAgain,
    PushTo,
    ToPeer,
    ToRaylet,
    UnhandledError,
    Wait,
    WakeUp,
)
from raybook.core.owner.regions import EVERYTHING, RECALL_BYTES_MIN, Regions, Ticket
from raybook.core.worker.copies import Copies, CopyTicket
from raybook.io.peer_address import close_listeners, listen_for_peers
from raybook.io.shm_arena import Arena
from raybook.io.transport import ConnectionClosed
from raybook.protocol.messages.raylet import FactsDelta, GcsReply, NodeGone, Observed, Refused
from raybook.protocol.messages.store import (
    ExtentGranted,
    ExtentRefused,
    RecallIdle,
    ReclaimQuery,
    RegionsFreed,
    SpillWanted,
)
from raybook.worker.baton import Baton
from raybook.worker.deferred_signals import DeferredSignals
from raybook.worker.doorbell import Doorbell
from raybook.worker.executor_base import Executor
from raybook.worker.facts import FactSource
from raybook.worker.leading import Leading
from raybook.worker.mail import Mail
from raybook.worker.peers import Peer
from raybook.worker.raylet_link import GcsRequest, RayletLink
from raybook.worker.rhythm import Rhythm
from raybook.worker.tickets import Tickets

logger = logging.getLogger(__name__)
_now_s = time.monotonic
_wall_s = time.time

QUIET_VARIABLES = ("RAY_IGNORE_UNHANDLED_ERRORS", "RAYBOOK_IGNORE_UNHANDLED_ERRORS")
"""Set, errors that nobody asked for are not logged (looked at when there is one, as Ray does)."""


class CoreProcess:
    """One membership in one cluster."""

    def __init__(
        self, raylet_address: str, token: bytes, kind: str, *, namespace: str = "", kernel_id: str = "",
        entrypoint: str = "", client_id: bytes = b"", wants_output: bool = False,
    ) -> None:  # fmt: skip
        """Register with the raylet; blocks until it answers. ConnectionError when it refuses (with its reason)."""
        self.client_id, self.kernel_id = client_id or random_id(), kernel_id
        self.ids = IdFactory(self.client_id)
        session_dir = os.path.dirname(raylet_address.removeprefix("unix:"))
        self.address, self._listeners = listen_for_peers(session_dir, self.client_id.hex())
        try:
            self._link = RayletLink.register(
                raylet_address, token, kind, self.client_id, self.address, namespace, kernel_id, entrypoint, wants_output
            )  # fmt: skip
        except BaseException:
            close_listeners(self.address, self._listeners)
            raise
        registered = self.registered = self._link.registered
        self.config: Config = registered.config
        self.arena = Arena(self._link.arena_fd)
        self.me = Endpoint(self.client_id, registered.node_id, self.address)
        self.owner = Owner(self.client_id, registered.config)
        if len(self._listeners) > 1:
            self.owner.recovery.is_on = True
            self.owner.leases.locality = Locality(registered.node_id)
            self.owner.evacuation.here = registered.node_id
        self.baton = Baton()
        self.doorbell = bell = Doorbell(self.baton)
        self.queue, self.submit, self.submit_soon, self.wake = bell.queue, bell.submit, bell.submit_soon, bell.ring
        self.leave = bell.leave
        self.executor: Executor | None = None
        self.facts = FactSource(self.owner, registered.node_id, registered.observed)
        self.on_log: Callable[[str], None] = _print_line
        self.on_cluster_lost: Callable[[str], None] = lambda reason: None
        self.fact_listeners: list[Callable[[FactsDelta], None]] = []
        self.lost_reason = ""
        self._regions = Regions(self.to_raylet, self.owner.pins.touches)
        self._copies = Copies(
            self.to_raylet, self.queue.append, self.owner.objects, self.owner.references, self.owner.pins,
            registered.node_id,
        )  # fmt: skip
        self._epoll = select.epoll()
        self._poll = self._epoll.poll
        self._mail = Mail(
            self.me, token, self._listeners, self._epoll, self.owner.accepted, self.queue.append,
            registered.config.health_check_timeout_ms,
        )  # fmt: skip
        self.forget_code = self._mail.forget
        self.unfinished = self.owner.tasks.tasks
        self.awaited = self.owner.waits.waiting
        self.deferred = DeferredSignals(self.wake)
        self.leading = Leading(self, self._step, self._fail, self.deferred)
        self.tickets = Tickets(self.leading, self._regions, self.submit_call)
        self._stopping = False
        self.is_ending = False
        self._has_polled = False
        self._watched: dict[int, Callable[[], None]] = {}
        self._rhythm = Rhythm()
        self._thread = threading.Thread(target=self._run, name="raybook-io", daemon=True)
        self._effects: dict[type, Callable[[Any], None]] = {
            ToPeer: self._mail.send,
            PushTo: self._mail.push,
            ToRaylet: lambda effect: self.to_raylet(effect.message),
            WakeUp: _wake_up,
            FreeOwn: lambda effect: self._regions.free(effect.offset),
            LookAgain: lambda effect: self.queue.append(_nothing),
            GiveBackIdle: lambda effect: self._regions.give_back_all(),
            LogLine: lambda effect: self.on_log(effect.text),
            UnhandledError: self._log_unhandled,
        }
        self._local_handlers: dict[type, Callable[[Any], None]] = {
            Ticket: self._regions.allocate,
            CopyTicket: self._copies.ask,
            GcsRequest: self._link.call,
            ToRaylet: lambda effect: self._link.send(effect.message),
            types.FunctionType: lambda function: function(),
            types.MethodType: lambda method: method(),
        }
        """Events that are not the owner machine's; a function or bound method is run on the I/O thread."""
        self.raylet_handlers: dict[type, Callable[[Any], None]] = {
            GcsReply: self._on_gcs_reply,
            ExtentGranted: lambda message: self._regions.granted(message),
            ExtentRefused: lambda message: self._regions.refused(message),
            RegionsFreed: self._regions.freed,
            **self._copies.handlers,
            ReclaimQuery: self._regions.reclaim_asked,
            RecallIdle: lambda message: self._regions.recalled(message),
            Observed: lambda message: self.facts.set_observed(message.active),
            FactsDelta: self._on_facts,
            Refused: lambda message: self._lose_cluster(message.reason),
        }

    # Called by user threads

    def start(self) -> None:
        """Start the I/O thread."""
        self._epoll.register(self.doorbell.fd, select.EPOLLIN | select.EPOLLET)
        for listener in self._listeners:
            self._epoll.register(listener, select.EPOLLIN)
        self._epoll.register(self._link.fd, select.EPOLLIN)
        self._mail.executor = self.executor
        self._thread.start()

    def watch(self, fd: int, note: Callable[[], None], mask: int = select.EPOLLIN | select.EPOLLET) -> None:
        """Call ``note`` in the loop each time a descriptor becomes readable anew, or as ``mask`` says; again, to change
        that. From the thread that holds the baton, or before the loop could see it."""
        if fd in self._watched:
            self._epoll.modify(fd, mask)
        else:
            self._epoll.register(fd, mask)
        self._watched[fd] = note

    def unwatch(self, fd: int) -> None:
        """No more of that. Idempotent."""
        if self._watched.pop(fd, None) is not None:
            with contextlib.suppress(OSError, ValueError):
                self._epoll.unregister(fd)

    def lost_error(self) -> Exception:
        """What to raise when ``lost_reason`` is set."""
        return LocalRayletDiedError(self.lost_reason)

    def is_quiet(self) -> bool:
        """Nothing is in flight, or to be done, that would be late if the loop turned some milliseconds later."""
        return not (self.queue or self.unfinished or self.awaited or self.is_ending)

    def call_gcs(self, method: str, request: bytes) -> GcsReply:
        """Call a GCS method and wait for the answer."""
        if self.lost_reason:
            return GcsReply(0, error_code="LocalRayletDiedError", error_text=self.lost_reason)
        call = GcsRequest(method, request)
        self.leading.wait_for(call)
        return call.reply or GcsReply(0, error_code="LocalRayletDiedError", error_text=self.lost_reason)

    def send_gcs(self, method: str, request: bytes) -> None:
        """Call a GCS method from a user thread without waiting; a refusal is logged."""
        self.submit(GcsRequest(method, request, is_watched=False))

    def send_raylet(self, message: Any) -> None:
        """Send to the raylet from a user thread."""
        self.submit(ToRaylet(message))

    def stop(self, timeout_s: float = 2.0) -> None:
        """Leave: stop the I/O thread and close everything. Idempotent."""
        if self._stopping:
            return
        self._stopping = self.is_ending = True
        self.wake()
        self.baton.unpark()
        if self._thread.is_alive() and threading.current_thread() is not self._thread:
            self._thread.join(timeout_s)

    # The loop

    def _run(self) -> None:
        """The I/O thread."""
        baton = self.baton
        baton.take_up()
        try:
            for message in self._link.early:
                self._on_raylet_message(message, [])
            stopping = False
            while not stopping:
                # Once more after the stop: what was handed over before it must still go out.
                stopping = self._stopping
                self._step()
                if (baton.is_claimed or (baton.is_wanted and self.is_quiet())) and not stopping:
                    baton.lay_down()
                    baton.wait_until_needed()
                    baton.take_up()
                    self.doorbell.left_to_lie = 0
        except Exception:  # noqa: BLE001 - it is logged, and ends this process's membership.
            self._fail()
        finally:
            self._close()

    def _fail(self) -> None:
        logger.exception("The I/O loop of raybook failed; this process leaves its cluster.")
        self._lose_cluster("raybook's I/O loop failed; its traceback is in the log. Please report it.")
        self._stopping = self.is_ending = True

    def _step(self, end_s: float | None = None) -> None:
        """One turn. Sleeps until something happens, a timer is due, or ``end_s`` (monotonic) has come."""
        mail = self._mail
        queue = self.queue
        inbox: list[Any] = []
        has_heard = False
        if queue and self._has_polled:
            # Every second time at most: what was just handed over goes out first, but starves nobody.
            self._has_polled = False
        else:
            self._has_polled = True
            by_fd = mail.by_fd
            # The flag is raised before the queue is looked at: whoever appends after that look sees it and wakes us.
            bell = self.doorbell
            bell.is_asleep = True
            wait_s = 0.0
            if not (queue or self._stopping or self.deferred.noted):
                wake_s = self._rhythm.due_ms / 1000
                if end_s is not None and end_s < wake_s:
                    wake_s = end_s
                wait_s = wake_s - _now_s()
            ready = self._poll(wait_s if wait_s > 0.0 else 0)
            bell.is_asleep = False
            for fd, mask in ready:
                peer = by_fd.get(fd)
                if peer is not None:
                    mail.read(peer, mask, inbox)
                    has_heard = True
                elif fd == self._link.fd:
                    self._serve_raylet(mask, inbox)
                elif fd in mail.listeners:
                    mail.welcome(fd)
                elif fd in self._watched:
                    self._watched[fd]()
                # Else it was a wake-up; edge-triggered: nothing to read.
        if queue:
            # As many as there are now: others may go on appending.
            for _ in range(len(queue)):
                inbox.append(queue.popleft())
            if not self._local_handlers.keys().isdisjoint(map(type, inbox)):
                inbox = self._handle_local(inbox)
        now_ms = int(_now_s() * 1000)
        if has_heard:
            self._rhythm.heard(now_ms)
        if inbox:
            owner = self.owner
            owner.wall_s = _wall_s()
            table = self._effects
            for effect in owner.handle(inbox, now_ms):
                table[type(effect)](effect)
            self._rhythm.acted(now_ms)
        if now_ms >= self._rhythm.due_ms:
            self._on_timer(now_ms, bool(inbox))
        if self._link.is_unsent:  # First: of a value in the arena, the raylet hears before its owner.
            self._flush_link()
        if mail.unsent:
            mail.flush()

    def _execute(self, effects: list[Any]) -> None:
        table = self._effects
        for effect in effects:
            table[type(effect)](effect)

    def _on_timer(self, now_ms: int, is_busy: bool) -> None:
        """What can wait some milliseconds: deadlines of the machine, replies left behind, extents, facts."""
        self.owner.wall_s = _wall_s()
        self._execute(self.owner.tick(now_ms))
        self._regions.look(now_ms)
        self._mail.look(now_ms)
        if self.facts.is_due(now_ms):
            for message in self.facts.take(now_ms):
                self.to_raylet(message)
        wait_ms = self.facts.wait_ms(now_ms)
        deadline = self.owner.next_deadline_ms()
        if deadline is not None:
            wait_ms = min(wait_ms, deadline - now_ms)
        if self.executor is not None:
            self.executor.on_idle()
        self._rhythm.rest(now_ms, is_busy, wait_ms, self.executor)

    def _handle_local(self, inbox: list[Any]) -> list[Any]:
        """Do what is not the owner machine's; the rest."""
        local = self._local_handlers
        rest = []
        for event in inbox:
            handler = local.get(type(event))
            if handler is None:
                rest.append(event)
            else:
                if rest and type(event) is GcsRequest:
                    # The cluster must not be asked for an actor before it hears that its last handle went.
                    self._execute(self.owner.handle(rest, int(time.monotonic() * 1000)))
                    rest.clear()
                handler(event)
        return rest

    def _log_unhandled(self, effect: UnhandledError) -> None:
        if not any(os.environ.get(name) for name in QUIET_VARIABLES):
            self.on_log(f"Unhandled error (suppress with '{QUIET_VARIABLES[0]}=1'): {effect.text}")

    # Raylet

    def to_raylet(self, message: Any) -> None:
        """Queue for the raylet (I/O thread only)."""
        self._link.send(message)

    def _serve_raylet(self, mask: int, inbox: list[Any]) -> None:
        if mask & ~select.EPOLLOUT:
            try:
                messages = self._link.framed.receive()
            except ConnectionError:
                self._lose_cluster("The cluster's head ended, or this node's raylet died.")
                return
            for message in messages:
                self._on_raylet_message(message, inbox)
            # It may have asked for something that is looked after by the timer.
            self._rhythm.hurry()

    def _on_raylet_message(self, message: Any, inbox: list[Any]) -> None:
        kind = type(message)
        if kind is SpillWanted:
            # What nothing lies in need not be made free.
            message.bytes_wanted -= self._regions.give_back_idle(EVERYTHING, RECALL_BYTES_MIN)
        if kind is NodeGone:
            self._mail.node_gone(message, inbox)
            return
        if kind in self.owner.accepted_from_raylet:
            inbox.append(FromRaylet(message))
            return
        handler = self.raylet_handlers.get(kind)
        if handler is not None:
            handler(message)
        elif self.executor is not None:
            self.executor.on_raylet(message)

    def _on_gcs_reply(self, message: GcsReply) -> None:
        request = self._link.answered(message)
        if request is not None and message.error_code and not request.is_watched:
            self.on_log(f"{request.method} was refused: {message.error_text}")

    def _on_facts(self, delta: FactsDelta) -> None:
        for listener in list(self.fact_listeners):
            listener(delta)

    def _lose_cluster(self, reason: str) -> None:
        """The raylet is gone: everything that waits fails with this reason."""
        if self.lost_reason or self._stopping:
            return
        self.lost_reason = reason
        self.is_ending = True
        with contextlib.suppress(OSError, ValueError):
            self._epoll.unregister(self._link.fd)
        self._fail_waiting(reason)
        self.on_cluster_lost(reason)

    # Peers

    def send_peer(self, client_id: bytes, message: Any) -> None:
        """Send to a connected peer (I/O thread only)."""
        self._mail.send(ToPeer(client_id, "", message))

    def finish_write(self, peer: Peer) -> None:
        """Another thread's write was cut short; take over."""
        self.submit_call(lambda: self._mail.unsent.__setitem__(peer.framed.fd, peer))

    def submit_call(self, function: Callable[[], None]) -> None:
        """Run a function on the I/O thread."""
        self.submit(function)

    def _flush_link(self) -> None:
        link = self._link
        if self.lost_reason:
            return
        try:
            done = link.framed.flush()
        except ConnectionClosed:
            self._lose_cluster("The cluster's head ended, or this node's raylet died.")
            return
        link.is_unsent = not done
        if done == link.is_writing:
            link.is_writing = not done
            self._epoll.modify(link.fd, select.EPOLLIN | (0 if done else select.EPOLLOUT))

    # The end

    def _close(self) -> None:
        with contextlib.suppress(ConnectionClosed):
            if not self.lost_reason:
                self._link.framed.flush()
        self.lost_reason = self.lost_reason or "This process has left its cluster (shutdown was called)."
        self._fail_waiting(self.lost_reason)
        self._mail.close()
        close_listeners(self.address, self._listeners)
        self._epoll.close()
        self.arena.close()

    def _fail_waiting(self, reason: str) -> None:
        """Nobody waits for ever: every blocked user thread is released, and finds ``lost_reason``."""
        self._link.end()
        self._regions.fail_all(reason)
        self._copies.fail_all(reason)
        for wait in self.owner.waits.abandon():
            _wake_up(WakeUp(wait))
        for event in list(self.queue):
            if type(event) is GcsRequest:
                event.answer(None)
            elif type(event) in (Ticket, CopyTicket):
                event.finish()
            elif type(event) is Wait:
                _wake_up(WakeUp(event))
        if self._stopping:
            self.queue.clear()


def _wake_up(effect: WakeUp) -> None:
    wait = effect.wait
    if wait.callback is not None:
        wait.callback()
    elif wait.lock is not None:
        wait.lock.release()


def _nothing() -> None:
    pass


def _print_line(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def encode(request: Any) -> bytes:
    """A GCS request as bytes."""
    return msgspec.msgpack.encode(request)
