"""HTTP door: the sockets at which a head can be asked over HTTP, and the process behind them, started by the first knock.

A cluster that nobody asks pays for two listening sockets and nothing else. The server inherits the sockets, so no request
is lost on its way; when it ends, the door is listened at again, and the next knock starts another. One socket is a Unix
one in the session's folder, for this user on this machine; the other one, where asked for, listens on a port.

Runs on the loop of whoever opens it. Knows nothing of what is asked.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import signal
import socket
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

from raybook.io.daemon import daemon_environment
from raybook.io.transport import cannot_listen

logger = logging.getLogger(__name__)

SOCKET_NAME = "http.sock"
AGAIN_S = 1.0
"""Pause after a server that ended, so that one that cannot start is not started in a circle."""
PORT_AGAIN_S = 0.1
BACKLOG = 128
STOP_S = 1.0


class HttpDoor:
    """One door. module: what ``python -m`` runs as the server, with ``options`` and the sockets as one JSON argument."""

    def __init__(self, module: str, options: dict[str, Any], session: Path) -> None:
        self._module = module
        self._options = options
        self._session = session
        self._unix_path = str(session / SOCKET_NAME)
        self._sockets: list[socket.socket] = []
        self._process: subprocess.Popen[bytes] | None = None
        self._pidfd = -1
        self._loop = asyncio.get_running_loop()
        self._again: asyncio.TimerHandle | None = None
        self._port_timer: asyncio.TimerHandle | None = None
        self.address = ""
        """host:port, when a port is listened at."""

    def open(self, host: str = "", port: int | None = None, keep_trying: bool = False) -> None:
        """Listen. port: None for none, 0 for any free one. OSError when it is taken. keep_trying: whoever has it now is the
        server of a door before this one and about to end, so the port is listened at as soon as it is free."""
        with suppress(FileNotFoundError):
            os.unlink(self._unix_path)
        local = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._sockets.append(local)
        local.bind(self._unix_path)
        os.chmod(self._unix_path, 0o600)
        local.listen(BACKLOG)
        self._listen()
        if port is not None and keep_trying:
            self.address = f"{host}:{port}"
            self._try_port(host, port)
        elif port is not None:
            self._open_port(host, port)

    def _open_port(self, host: str, port: int) -> None:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        try:
            public = socket.create_server((host, port), family=family, backlog=BACKLOG)
        except OSError as error:
            raise cannot_listen(error, f"{host}:{port}", "--dashboard-port") from None
        self._sockets.append(public)
        self.address = f"{host}:{public.getsockname()[1]}"
        if self._process is None and self._again is None:
            self._loop.add_reader(public.fileno(), self._knock)

    def _try_port(self, host: str, port: int) -> None:
        self._port_timer = None
        try:
            self._open_port(host, port)
        except OSError:
            self._port_timer = self._loop.call_later(PORT_AGAIN_S, self._try_port, host, port)

    def close(self) -> None:
        """Stop listening and end the server. Idempotent."""
        self._ignore()
        for timer in (self._again, self._port_timer):
            if timer is not None:
                timer.cancel()
        if self._pidfd >= 0:
            self._loop.remove_reader(self._pidfd)
            os.close(self._pidfd)
            self._pidfd = -1
        process, self._process = self._process, None
        if process is not None:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(STOP_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        for each in self._sockets:
            each.close()
        self._sockets.clear()
        with suppress(OSError):
            os.unlink(self._unix_path)

    def _listen(self) -> None:
        self._again = None
        for each in self._sockets:
            self._loop.add_reader(each.fileno(), self._knock)

    def _ignore(self) -> None:
        for each in self._sockets:
            self._loop.remove_reader(each.fileno())

    def _knock(self) -> None:
        self._ignore()
        fds = [each.fileno() for each in self._sockets]
        arguments = json.dumps({**self._options, "sockets": fds, "session_dir": str(self._session)})
        # As for all daemons: no user's module in its way, a session of its own, and its words in the logs.
        safe_path = ["-P"] if sys.version_info >= (3, 11) else []
        try:
            with open(self._session / "logs" / "jobs.log", "ab", buffering=0) as log:
                self._process = subprocess.Popen(
                    [sys.executable, *safe_path, "-m", self._module, arguments],
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    start_new_session=True,
                    pass_fds=fds,
                    env=daemon_environment(os.environ),
                )
            self._pidfd = os.pidfd_open(self._process.pid)
        except OSError:
            logger.exception("The server behind the HTTP door could not be started.")
            self._again = self._loop.call_later(AGAIN_S, self._listen)
            return
        self._loop.add_reader(self._pidfd, self._ended)

    def _ended(self) -> None:
        self._loop.remove_reader(self._pidfd)
        os.close(self._pidfd)
        self._pidfd = -1
        process, self._process = self._process, None
        if process is not None:
            process.wait()
            logger.warning("The server behind the HTTP door ended with code %s.", process.returncode)
        self._again = self._loop.call_later(AGAIN_S, self._listen)
