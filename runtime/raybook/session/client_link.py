"""Client link: the one connection of a thin client, turned by whichever thread of it leads.

User threads append to the bell's queue and ring; a turn makes bodies of what they appended (``encode``), sends them, and
delivers what came back. When the connection breaks it makes another, as ``core/session/client`` decides. Knows nothing of
orders and answers. Invariants: one thread at a time turns it, and touches the socket and the stream; whoever waits for
something is released when the line ends, and finds out why.
"""

from __future__ import annotations

import contextlib
import select
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any, Protocol

import msgspec

from raybook.core.session.client import (
    OPEN,
    Broke,
    ClientMachine,
    Deliver,
    Dial,
    End,
    HangUp,
    Heard,
    Leaving,
    Say,
    SendBatch,
    WasTurnedAway,
    Welcomed,
)
from raybook.io.transport import FramedSocket, Security, connect, connect_nowait
from raybook.protocol.auth import AuthenticationFailed
from raybook.protocol.messages.session import Batch, Conversation, Goodbye, Knock, TurnedAway, Welcome

GREETING_S = 30.0
FIRST_TRIES = 3
"""A session that ends at the moment we knock closes the connection; the next knock begins another one."""
BACKLOG_BYTES_MAX = 64 << 20
"""Orders that nobody has acknowledged; who submits more waits."""
UNSENT_BYTES_MAX = 512 << 10
BUSY_S = 0.5
LOOK_S = 0.01
REST_S = 1.0
"""What was appended without a ring is looked at so often: while there is work, and at rest."""
DRAIN_S = 2.0
"""What was ordered before the end should still arrive."""


class KnockRefused(ConnectionError):
    """code: of ``messages.session``."""

    def __init__(self, code: str, text: str) -> None:
        super().__init__(text)
        self.code = code


def knock_at(
    address: str, token: bytes, knock: Knock, security: Security | None = None
) -> tuple[FramedSocket, Welcome, list[Any]]:
    """Connect and be welcomed: (connection, welcome, what came with it). security: TLS, to a port. Blocks until then.
    KnockRefused with the head's words; ConnectionError when nobody answers, or not as a head does."""
    for last in range(FIRST_TRIES - 1, -1, -1):
        try:
            return _knock_once(address, token, knock, security)
        except KnockRefused:
            raise
        except TimeoutError as error:
            raise ConnectionError(
                f"{_place(address)} accepted the connection and did not answer within {GREETING_S:.0f} s. Is it the port "
                f"for thin clients of a raybook head? One that speaks TLS (RAY_USE_TLS and its files) says nothing without."
            ) from error
        except (OSError, ConnectionError) as error:
            if not last or not isinstance(error, ConnectionResetError | EOFError | _Closed):
                raise ConnectionError(
                    f"No session could be had at {_place(address)}: {error} Thin clients knock at the port that `raybook "
                    f"start --head` names (--client-port)."
                ) from error
    raise AssertionError("unreachable")


class _Closed(ConnectionError):
    pass


def _knock_once(
    address: str, token: bytes, knock: Knock, security: Security | None
) -> tuple[FramedSocket, Welcome, list[Any]]:
    framed = connect(address, token, Conversation, security=security)
    try:
        framed.queue(knock)
        framed.sock.settimeout(GREETING_S)
        framed.flush()
        framed.sock.setblocking(False)
        end_s = time.monotonic() + GREETING_S
        messages: list[Any] = []
        while not messages:
            left_s = end_s - time.monotonic()
            if left_s <= 0 or not select.select([framed.fd], [], [], left_s)[0]:
                raise TimeoutError
            try:
                messages = framed.receive()
            except ConnectionError as error:
                raise _Closed(
                    f"the connection was closed before an answer came ({error}). Is this the token of that cluster?"
                ) from error
        first = messages[0]
        if isinstance(first, TurnedAway):
            raise KnockRefused(first.code, first.text)
        if not isinstance(first, Welcome):
            raise ConnectionError(f"{_place(address)} answered with a {type(first).__name__}.")
        return framed, first, messages[1:]
    except BaseException:
        framed.close()
        raise


class Bell(Protocol):
    """How user threads hand events over, and end a turn's sleep."""

    queue: deque[Any]
    fd: int
    is_asleep: bool

    def rouse(self) -> None: ...


class ClientLink:
    """Made of the first, welcomed connection. encode: appended events → bodies to send. deliver: an answer's bytes. ended:
    the line is over; (code, text). must_not_sleep: something waits for the thread that turns. All are called in turns."""

    def __init__(
        self, address: str, token: bytes, knock: Knock, first: tuple[FramedSocket, Welcome, list[Any]], bell: Bell,
        encode: Callable[[list[Any]], Iterable[bytes]], deliver: Callable[[bytes], None],
        say: Callable[[str], None], ended: Callable[[str, str], None], must_not_sleep: Callable[[], bool],
        security: Security | None = None,
    ) -> None:  # fmt: skip
        self._address = address
        self._token = token
        self._security = security
        self._framed: FramedSocket | None = first[0]
        self._early = first[2]
        welcome = first[1]
        self._knock = msgspec.structs.replace(knock, session_id=welcome.session_id, session_name=welcome.session_name)
        self.machine = ClientMachine(welcome, _place(address), _now_ms())
        self._encode = encode
        self._bell = bell
        self._queue = bell.queue
        self._must_not_sleep = must_not_sleep
        self._is_writing = False
        self._has_polled = False
        self.is_full = False
        """Far more has been ordered than the network took: events stay in the queue, and who submits more should wait."""
        self._stuck: list[Any] = []
        self._busy_until_s = 0.0
        self._epoll = select.epoll()
        self._effects: dict[type, Callable[[Any], None]] = {
            Deliver: lambda effect: deliver(effect.body),
            SendBatch: self._send_batch,
            Say: lambda effect: say(effect.text),
            Dial: self._dial,
            HangUp: lambda effect: self._hang_up(),
            End: lambda effect: ended(effect.code, effect.text),
        }

    # Any thread

    def __bool__(self) -> bool:
        """Whether something is left to do that would be late if nobody turned this for some milliseconds."""
        machine = self.machine
        return machine.stream.has_unsent() or machine.state != OPEN

    def wait_for_room(self) -> None:
        """Until what was ordered is no longer too much; not from a turn."""
        lock = threading.Lock()
        lock.acquire()
        self._stuck.append(lock)
        if self.is_full:
            self._bell.rouse()
            lock.acquire()

    def close_in_child(self) -> None:
        """After a fork: the connection is the parent's, and must end with it."""
        framed = self._framed
        if framed is not None:
            framed.close()

    # Turns

    def open(self) -> None:
        """Before the first turn."""
        self._epoll.register(self._bell.fd, select.EPOLLIN | select.EPOLLET)
        assert self._framed is not None
        self._epoll.register(self._framed.fd, select.EPOLLIN)
        early, self._early = self._early, []
        for message in early:
            self._on_message(message)

    def turn(self, end_s: float | None = None) -> None:
        """One. Sleeps until something happens, a deadline comes, or ``end_s`` (monotonic)."""
        queue = self._queue
        ready: list[tuple[int, int]] = []
        if queue and self._has_polled and not self.is_full:
            # Every second time at most: what was just handed over goes out first, but starves nobody.
            self._has_polled = False
        else:
            self._has_polled = True
            bell = self._bell
            # Raised before the queue is looked at: whoever appends after that look sees it, and wakes us.
            bell.is_asleep = True
            ready = self._epoll.poll(self._sleep_s(end_s))
            bell.is_asleep = False
        for fd, mask in ready:
            framed = self._framed
            if framed is not None and fd == framed.fd and mask & ~select.EPOLLOUT:
                self._read(framed)
        if queue and not self.is_full:
            self._take_events()
        now_s = time.monotonic()
        now_ms = int(now_s * 1000)
        if ready:
            self._busy_until_s = now_s + BUSY_S
        due_ms = self.machine.next_deadline_ms()
        if due_ms is not None and now_ms >= due_ms:
            self._handle([])
        self._write(now_ms)
        self._look_for_room()

    def drain(self, goodbye: Goodbye) -> None:
        """What was ordered goes out, for a moment at most, and the goodbye behind it."""
        end_s = time.monotonic() + DRAIN_S
        while self.machine.state == OPEN and time.monotonic() < end_s:
            framed = self._framed
            # What was written arrives before the goodbye; that it did need not be waited for.
            if not (self._queue or self.machine.stream.has_unsent() or (framed is not None and framed.unsent_bytes)):
                break
            self.turn(time.monotonic() + 0.05)
        if self.machine.state == OPEN and self._framed is not None:
            with contextlib.suppress(OSError):
                self._framed.queue(goodbye)
                self._framed.flush()

    def finish(self, reason: str) -> None:
        """The end; reason: for whoever still waits. Idempotent."""
        self._handle([Leaving(reason)])
        self.refuse_rest()
        self._hang_up()
        self._look_for_room()
        self._epoll.close()

    def refuse_rest(self) -> None:
        """Events that were handed over at the moment of the end."""
        if self._queue:
            self._take_events()

    def _sleep_s(self, end_s: float | None) -> float:
        if (self._queue and not self.is_full) or self._must_not_sleep():
            return 0
        now_s = time.monotonic()
        wait_s = LOOK_S if now_s < self._busy_until_s else REST_S
        due_ms = self.machine.next_deadline_ms()
        if due_ms is not None:
            wait_s = min(wait_s, due_ms / 1000 - now_s)
        if end_s is not None:
            wait_s = min(wait_s, end_s - now_s)
        return max(0.0, wait_s)

    def _take_events(self) -> None:
        queue = self._queue
        events = [queue.popleft() for _ in range(len(queue))]
        send = self.machine.stream.send
        for body in self._encode(events):
            send(body)
        self._busy_until_s = time.monotonic() + BUSY_S

    def _look_for_room(self) -> None:
        self.is_full = self.machine.stream.backlog_bytes >= BACKLOG_BYTES_MAX and self.machine.state != "ENDED"
        if not self.is_full and self._stuck:
            stuck, self._stuck = self._stuck, []
            for lock in stuck:
                lock.release()

    def _read(self, framed: FramedSocket) -> None:
        try:
            messages = framed.receive()
            if framed.unsent_bytes:
                framed.flush()  # The challenge has come, and the knock may go out.
        except ConnectionError as error:
            self._broke(error)
            return
        for message in messages:
            self._on_message(message)

    def _on_message(self, message: Any) -> None:
        attempt = self.machine.attempt
        if type(message) is Batch:
            self._handle([Heard(attempt, message)])
        elif type(message) is Welcome:
            self._handle([Welcomed(attempt, message)])
        elif type(message) is TurnedAway:
            self._handle([WasTurnedAway(attempt, message)])

    def _write(self, now_ms: int) -> None:
        framed = self._framed
        if framed is None:
            return
        try:
            if self.machine.state == OPEN:
                while framed.unsent_bytes < UNSENT_BYTES_MAX and (batch := self.machine.take(now_ms)) is not None:
                    framed.queue(batch)
                    framed.flush()
            is_writing = not framed.flush()
        except ConnectionError as error:
            self._broke(error)
            return
        if is_writing != self._is_writing:
            self._is_writing = is_writing
            self._epoll.modify(framed.fd, select.EPOLLIN | (select.EPOLLOUT if is_writing else 0))

    # Effects

    def _handle(self, events: list[Any]) -> None:
        for effect in self.machine.handle(events, _now_ms()):
            self._effects[type(effect)](effect)

    def _send_batch(self, effect: SendBatch) -> None:
        if self._framed is not None:
            self._framed.queue(effect.batch)

    def _dial(self, effect: Dial) -> None:
        self._hang_up()
        try:
            framed = connect_nowait(self._address, self._token, Conversation, self._security)
        except OSError as error:
            self._handle([Broke(effect.attempt, error.strerror or str(error))])
            return
        framed.queue(msgspec.structs.replace(self._knock, received=effect.received))
        self._framed = framed
        self._is_writing = False
        self._epoll.register(framed.fd, select.EPOLLIN)

    def _hang_up(self) -> None:
        framed, self._framed = self._framed, None
        if framed is not None:
            with contextlib.suppress(OSError, ValueError):
                self._epoll.unregister(framed.fd)
            framed.close()

    def _broke(self, error: ConnectionError) -> None:
        attempt = self.machine.attempt
        self._hang_up()
        self._handle([Broke(attempt, str(error), isinstance(error, AuthenticationFailed))])


def _place(address: str) -> str:
    return address.removeprefix("tcp:")


def _now_ms() -> int:
    return int(time.monotonic() * 1000)
