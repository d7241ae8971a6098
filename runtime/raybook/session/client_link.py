"""Client link: the one connection of a thin client, and the thread that turns it.

User threads append to ``queue`` and ring; the thread turns what they appended into bodies (``encode``), sends them, and
delivers what comes back. When the connection breaks it makes another, as ``core/session/client`` decides. Knows nothing of
orders and answers. Invariants: only this thread touches the socket and the stream; whoever waits for something is released
when the line ends, and finds out why.
"""

from __future__ import annotations

import contextlib
import logging
import os
import select
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any

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
from raybook.io.transport import FramedSocket, connect, connect_nowait
from raybook.protocol.auth import AuthenticationFailed
from raybook.protocol.messages.session import Batch, Conversation, Goodbye, Knock, TurnedAway, Welcome

logger = logging.getLogger(__name__)

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
STOP_S = 3.0
DRAIN_S = 2.0
"""What was ordered before the end should still arrive."""


class KnockRefused(ConnectionError):
    """code: of ``messages.session``."""

    def __init__(self, code: str, text: str) -> None:
        super().__init__(text)
        self.code = code


def knock_at(address: str, token: bytes, knock: Knock) -> tuple[FramedSocket, Welcome, list[Any]]:
    """Connect and be welcomed: (connection, welcome, what came with it). Blocks until then. KnockRefused with the
    head's words; ConnectionError when nobody answers, or not as a head does."""
    for last in range(FIRST_TRIES - 1, -1, -1):
        try:
            return _knock_once(address, token, knock)
        except KnockRefused:
            raise
        except TimeoutError as error:
            raise ConnectionError(
                f"{_place(address)} accepted the connection and did not answer within {GREETING_S:.0f} s. Is it the port "
                f"for thin clients of a raybook head, and is this the token of its cluster?"
            ) from error
        except (OSError, ConnectionError) as error:
            if not last or not isinstance(error, ConnectionResetError | EOFError | _Closed):
                raise ConnectionError(f"No session could be had at {_place(address)}: {error}") from error
    raise AssertionError("unreachable")


class _Closed(ConnectionError):
    pass


def _knock_once(address: str, token: bytes, knock: Knock) -> tuple[FramedSocket, Welcome, list[Any]]:
    framed = connect(address, token, Conversation)
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


class ClientLink:
    """Made of the first, welcomed connection. encode: an appended event → bodies to send, on the link's thread. deliver:
    an answer's bytes. ended: the line is over; (code, text)."""

    def __init__(
        self, address: str, token: bytes, knock: Knock, first: tuple[FramedSocket, Welcome, list[Any]],
        encode: Callable[[list[Any]], Iterable[bytes]], deliver: Callable[[bytes], None],
        say: Callable[[str], None], ended: Callable[[str, str], None],
    ) -> None:  # fmt: skip
        self._address = address
        self._token = token
        self._framed: FramedSocket | None = first[0]
        self._early = first[2]
        welcome = first[1]
        self._knock = msgspec.structs.replace(knock, session_id=welcome.session_id, session_name=welcome.session_name)
        self.machine = ClientMachine(welcome, _place(address), _now_ms())
        self._encode = encode
        self._deliver = deliver
        self._ended = ended
        self.queue: deque[Any] = deque()
        self.bell_fd = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        # Closed with this object, not with the thread: another thread may be about to write to it.
        weakref.finalize(self, os.close, self.bell_fd).atexit = False
        self._is_asleep = False
        self._is_writing = False
        self._is_stopping = False
        self._goodbye: Goodbye | None = None
        self._is_full = False
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
        self._thread = threading.Thread(target=self._run, name="raybook-io", daemon=True)

    # Any thread

    def start(self) -> None:
        self._epoll.register(self.bell_fd, select.EPOLLIN | select.EPOLLET)
        assert self._framed is not None
        self._epoll.register(self._framed.fd, select.EPOLLIN)
        self._thread.start()

    def submit(self, event: Any) -> None:
        """Hand an event over. Blocks while far more has been ordered than the network took."""
        self.queue.append(event)
        if self._is_asleep:
            self.ring()
        if self._is_full:
            self._wait_for_room()

    def ring(self) -> None:
        self._is_asleep = False
        os.eventfd_write(self.bell_fd, 1)

    @property
    def is_own_thread(self) -> bool:
        return threading.current_thread() is self._thread

    def stop(self, goodbye: Goodbye, reason: str) -> None:
        """Leave: what was ordered goes out first, for a moment at most. Idempotent; blocks until it is done."""
        if not self._is_stopping:
            self._goodbye = goodbye
            self._stop_reason = reason
            self._is_stopping = True
            self.ring()
        if self._thread.is_alive() and not self.is_own_thread:
            self._thread.join(STOP_S)

    def close_in_child(self) -> None:
        """After a fork: the connection is the parent's, and must end with it."""
        framed = self._framed
        if framed is not None:
            framed.close()

    def _wait_for_room(self) -> None:
        if self.is_own_thread:
            return
        lock = threading.Lock()
        lock.acquire()
        self._stuck.append(lock)
        if self._is_full:
            lock.acquire()

    # The thread

    def _run(self) -> None:
        try:
            for message in self._early:
                self._on_message(message)
            while not self._is_stopping:
                self._turn(self._sleep_s())
            self._drain()
        except Exception:
            logger.exception("The I/O loop of raybook failed; this process leaves its session.")
            self._stop_reason = "raybook's I/O loop failed; its traceback is in the log. Please report it."
        finally:
            self._finish()

    def _sleep_s(self) -> float:
        now_s = time.monotonic()
        wait_s = LOOK_S if now_s < self._busy_until_s else REST_S
        due_ms = self.machine.next_deadline_ms()
        if due_ms is not None:
            wait_s = min(wait_s, due_ms / 1000 - now_s)
        return max(0.0, wait_s)

    def _turn(self, wait_s: float) -> None:
        self._is_asleep = True
        if self.queue and not self._is_full:
            wait_s = 0
        ready = self._epoll.poll(wait_s)
        self._is_asleep = False
        for fd, mask in ready:
            framed = self._framed
            if framed is not None and fd == framed.fd:
                if mask & ~select.EPOLLOUT:
                    self._read(framed)
        if self.queue and not self._is_full:
            self._take_events()
        if ready:
            self._busy_until_s = time.monotonic() + BUSY_S
        due_ms = self.machine.next_deadline_ms()
        now_ms = _now_ms()
        if due_ms is not None and now_ms >= due_ms:
            self._handle([])
        self._write(now_ms)
        self._look_for_room()

    def _take_events(self) -> None:
        events = [self.queue.popleft() for _ in range(len(self.queue))]
        send = self.machine.stream.send
        for body in self._encode(events):
            send(body)
        self._busy_until_s = time.monotonic() + BUSY_S

    def _look_for_room(self) -> None:
        self._is_full = self.machine.stream.backlog_bytes >= BACKLOG_BYTES_MAX and self.machine.state != "ENDED"
        if not self._is_full and self._stuck:
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
            framed = connect_nowait(self._address, self._token, Conversation)
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

    # The end

    def _drain(self) -> None:
        end_s = time.monotonic() + DRAIN_S
        while self.machine.state == OPEN and time.monotonic() < end_s:
            framed = self._framed
            # What was written arrives before the goodbye; that it did need not be waited for.
            if not (self.queue or self.machine.stream.has_unsent() or (framed is not None and framed.unsent_bytes)):
                break
            self._turn(0.05)
        if self.machine.state == OPEN and self._framed is not None and self._goodbye is not None:
            with contextlib.suppress(OSError):
                self._framed.queue(self._goodbye)
                self._framed.flush()

    def _finish(self) -> None:
        self._handle([Leaving(self._stop_reason)])
        if self.queue:
            self._take_events()
        self._hang_up()
        self._look_for_room()
        self._epoll.close()

    _stop_reason = ""


def _place(address: str) -> str:
    return address.removeprefix("tcp:")


def _now_ms() -> int:
    return int(time.monotonic() * 1000)
