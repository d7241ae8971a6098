"""Session door: the sockets at which thin clients knock, and the session processes behind it, one for each session.

A knock that proves the token is read, and the connection goes to the session's process, which is started if there is none
yet: nothing of what a client says later comes through here. One socket is a Unix one in the session folder, for this
user's processes on this machine (a notebook whose results outlive its kernel); the other one, where asked for, a port.

Runs on the loop of the head's raylet. Knows names and ends of sessions, and nothing of what happens in one.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import signal
import socket
import ssl
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import msgspec

from raybook.base.config import Config
from raybook.base.ids import random_id
from raybook.base.versions import OWN, Versions, why_apart
from raybook.io.daemon import daemon_environment, log_tail
from raybook.io.handover import hand_over, handover_pair, take_over
from raybook.io.loop_transport import Connection, FrameServer
from raybook.io.relay import Relay
from raybook.io.transport import Security
from raybook.protocol.messages.session import (
    NO_SESSION,
    SESSION_ENDED,
    UNKNOWN_SESSION,
    WRONG_VERSION,
    Conversation,
    Knock,
    TurnedAway,
)

logger = logging.getLogger(__name__)

SOCKET_NAME = "sessions.sock"
MODULE = "raybook.session_process"
SESSIONS_MAX = 200
"""A session is a process of 60 MB."""
ENDED_KEPT = 1_000
"""Of so many ended sessions it is known why they ended."""
STOP_S = 1.0


class HostedSession:
    """A session process, from here."""

    def __init__(self, session_id: bytes, name: str, process: subprocess.Popen[bytes], end: socket.socket) -> None:
        self.session_id = session_id
        self.name = name
        self.process = process
        self.end = end
        self.pidfd = os.pidfd_open(process.pid)
        self.log_path = Path()
        self.reason = ""
        """Why it ended, if it said so."""


class SessionDoor:
    """One for each cluster. security: TLS, at the port."""

    def __init__(self, folder: Path, token: bytes, config: Config, security: Security | None = None) -> None:
        self._security = security
        self._folder = folder
        self._token = token
        self._config = config
        self._loop = asyncio.get_running_loop()
        self._servers: list[FrameServer] = []
        self._sessions: dict[bytes, HostedSession] = {}
        self._ended: dict[bytes, str] = {}
        self._relays: list[Relay] = []
        self.address = ""
        """host:port, when a port is listened at."""

    def open(self, host: str = "", port: int | None = None) -> None:
        """Listen. port: None for none, 0 for any free one. OSError."""
        addresses = [f"unix:{self._folder / SOCKET_NAME}"]
        if port is not None:
            addresses.append(f"tcp:{host}:{port}")
        for address in addresses:
            self._servers.append(
                FrameServer(address, self._token, Conversation, self._on_message, _ignore, self._security)
            )
        if port is not None:
            self.address = self._servers[-1].address.removeprefix("tcp:")

    def close(self) -> None:
        """Stop listening, and end every session. Idempotent."""
        for server in self._servers:
            server.close()
        self._servers.clear()
        for relay in self._relays:
            relay.close()
        sessions, self._sessions = list(self._sessions.values()), {}
        for hosted in sessions:
            self._unwatch(hosted)
            hosted.process.send_signal(signal.SIGTERM)
        for hosted in sessions:
            try:
                hosted.process.wait(STOP_S)
            except subprocess.TimeoutExpired:
                hosted.process.kill()
                hosted.process.wait()

    # Knocks

    def _on_message(self, connection: Connection, message: object) -> None:
        if type(message) is not Knock:
            connection.close()
            return
        theirs = Versions(message.protocol_version, message.python_version, message.raybook_version)
        refusal = why_apart(theirs, OWN, "this process", "the cluster", code_travels=True)
        if refusal:
            self._turn_away(connection, WRONG_VERSION, refusal)
            return
        hosted = self._sessions.get(message.session_id) if message.session_id else self._named(message.session_name)
        if hosted is None and message.session_id:
            self._unknown(connection, message)
            return
        if hosted is None:
            hosted = self._begin(connection, message)
        if hosted is not None:
            self._pass_on(connection, hosted, message)

    def _named(self, name: str) -> HostedSession | None:
        if not name:
            return None
        return next((hosted for hosted in self._sessions.values() if hosted.name == name), None)

    def _unknown(self, connection: Connection, knock: Knock) -> None:
        title = f"session {knock.session_name or knock.session_id.hex()}"
        reason = self._ended.get(knock.session_id)
        if reason is not None:
            text = f"The {title} has ended: {reason}. Its results went with it."
            self._turn_away(
                connection, SESSION_ENDED, f"{text} Call raybook.shutdown(), then raybook.init to begin anew."
            )
            return
        text = (
            f"This head knows no {title}: the head was restarted since, and sessions and their results end with it. Call "
            f"raybook.shutdown(), then raybook.init to begin anew; detached actors may still be there, by name."
        )
        self._turn_away(connection, UNKNOWN_SESSION, text)

    def _pass_on(self, connection: Connection, hosted: HostedSession, knock: Knock) -> None:
        theirs = connection.detach()
        if isinstance(theirs, ssl.SSLSocket):
            theirs = self._relayed(theirs)
        with theirs:
            try:
                if not hand_over(hosted.end, msgspec.msgpack.encode(knock), theirs):
                    logger.warning("Session %s does not take its connections.", hosted.session_id.hex())
            except (OSError, ValueError):
                logger.exception("A connection could not be passed to session %s.", hosted.session_id.hex())

    def _relayed(self, secure: ssl.SSLSocket) -> socket.socket:
        """What can be handed over in the place of an encrypted connection, whose keys are in this process."""
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        self._relays = [relay for relay in self._relays if not relay.closed]
        self._relays.append(Relay(secure, ours))
        return theirs

    def _turn_away(self, connection: Connection, code: str, text: str) -> None:
        connection.send(TurnedAway(code, text))
        connection.close()

    # Processes

    def _begin(self, connection: Connection, knock: Knock) -> HostedSession | None:
        if len(self._sessions) >= SESSIONS_MAX:
            text = f"This head has {SESSIONS_MAX} sessions already. End some with raybook.shutdown(), or wait."
            self._turn_away(connection, NO_SESSION, text)
            return None
        session_id = random_id()
        ours, theirs = handover_pair()
        idle_s = self._config.session_kept_s if knock.session_name else self._config.session_idle_s
        options = {
            "session_id": session_id.hex(),
            "name": knock.session_name,
            "folder": str(self._folder),
            "handover_fd": theirs.fileno(),
            "idle_limit_s": idle_s,
            "namespace": knock.namespace,
            "kernel_id": knock.kernel_id,
            "entrypoint": knock.entrypoint,
        }
        safe_path = ["-P"] if sys.version_info >= (3, 11) else []
        log_path = self._folder / "logs" / f"session-{session_id.hex()}.log"
        try:
            with open(log_path, "ab", buffering=0) as log:
                process = subprocess.Popen(
                    [sys.executable, *safe_path, "-m", MODULE, json.dumps(options)],
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    start_new_session=True,
                    pass_fds=[theirs.fileno()],
                    env=daemon_environment(os.environ),
                )
            hosted = HostedSession(session_id, knock.session_name, process, ours)
        except OSError as error:
            logger.exception("A session process could not be started.")
            ours.close()
            self._turn_away(connection, NO_SESSION, f"The head could not start a process for this session: {error}.")
            return None
        finally:
            theirs.close()
        hosted.log_path = log_path
        self._sessions[session_id] = hosted
        self._loop.add_reader(ours.fileno(), self._hear, hosted)
        self._loop.add_reader(hosted.pidfd, self._ended_process, hosted)
        logger.info("Session %s began, for %s.", session_id.hex(), knock.who or "a client")
        return hosted

    def _hear(self, hosted: HostedSession) -> None:
        """The session says why it ends; from then on its name is free."""
        try:
            packet = take_over(hosted.end)
        except EOFError:
            self._loop.remove_reader(hosted.end.fileno())
            return
        if packet is not None:
            hosted.reason = packet[0].decode(errors="replace")
            self._forget(hosted)

    def _ended_process(self, hosted: HostedSession) -> None:
        self._hear_last(hosted)
        self._unwatch(hosted)
        code = hosted.process.wait()
        if not hosted.reason:
            how = f"by signal {-code}" if code < 0 else f"with code {code}"
            tail = log_tail(hosted.log_path)
            hosted.reason = f"its process {hosted.process.pid} ended {how}" + (
                f"; its log ends:\n{tail}\n" * bool(tail)
            )
        self._forget(hosted)

    def _hear_last(self, hosted: HostedSession) -> None:
        with suppress(EOFError):
            packet = take_over(hosted.end)
            if packet is not None:
                hosted.reason = packet[0].decode(errors="replace")

    def _forget(self, hosted: HostedSession) -> None:
        self._ended[hosted.session_id] = hosted.reason
        if len(self._ended) > ENDED_KEPT:
            del self._ended[next(iter(self._ended))]
        if self._sessions.pop(hosted.session_id, None) is not None:
            logger.info("Session %s ended: %s.", hosted.session_id.hex(), hosted.reason)

    def _unwatch(self, hosted: HostedSession) -> None:
        if hosted.pidfd >= 0:
            self._loop.remove_reader(hosted.pidfd)
            os.close(hosted.pidfd)
            hosted.pidfd = -1
            self._loop.remove_reader(hosted.end.fileno())
            hosted.end.close()


def _ignore(connection: Connection) -> None:
    pass
