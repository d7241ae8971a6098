"""HTTP listener: a port of this machine, and the uvicorn server on this process's event loop that answers it.

The port is checked before it is shared: the first listener of a service finds out whether somebody else has it; further
ones (a proxy that starts again, replicas that listen themselves) join it with SO_REUSEPORT. Connections that do not finish
their request's head in time are closed.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import time
from collections.abc import Callable
from typing import Any

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

from raybook.serve.exceptions import RayServeException

HEAD_TIMEOUT_S = 15.0
"""As nginx's client_header_timeout, a quarter of it: a head is one packet."""
BACKLOG = 4096
ACCEPTED_AT_ONCE = 64
logger = logging.getLogger("ray.serve")


class PatientProtocol(HttpToolsProtocol):
    """uvicorn's, with a limit to how long a request's head, or a silence in its body, may last."""

    _silence: asyncio.TimerHandle | None = None
    _is_reading = True
    has_begun = False
    head_timeout_s = HEAD_TIMEOUT_S

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self._await_more()

    def on_message_begin(self) -> None:
        self._is_reading = self.has_begun = True
        super().on_message_begin()
        if self._silence is None:
            self._await_more()

    def on_body(self, body: bytes) -> None:
        self._forget()
        super().on_body(body)
        self._await_more()

    def on_message_complete(self) -> None:
        self._is_reading = False
        self._forget()
        super().on_message_complete()

    def connection_lost(self, exc: Exception | None) -> None:
        self._forget()
        super().connection_lost(exc)

    def _await_more(self) -> None:
        self._silence = self.loop.call_later(self.head_timeout_s, self._give_up)

    def _forget(self) -> None:
        if self._silence is not None:
            self._silence.cancel()
            self._silence = None

    def _give_up(self) -> None:
        self._silence = None
        if self._is_reading and self.transport is not None and not self.transport.is_closing():
            self.send_408()

    def send_408(self) -> None:
        """The client took too long."""
        text = b"The request did not come within the time limit."
        head = f"HTTP/1.1 408 Request Timeout\r\ncontent-type: text/plain\r\ncontent-length: {len(text)}\r\n"
        self.transport.write(head.encode() + b"connection: close\r\n\r\n" + text)
        self.transport.close()


def config_of(app: Callable[..., Any], options: dict[str, Any], protocol: type = PatientProtocol) -> uvicorn.Config:
    """uvicorn's configuration for an HTTPOptions as a dictionary."""
    return uvicorn.Config(
        app,
        loop="none",
        http=protocol,
        lifespan="off",
        access_log=False,
        log_config=None,
        log_level="error",
        server_header=False,
        backlog=BACKLOG,
        root_path=options.get("root_path") or "",
        timeout_keep_alive=int(options.get("keep_alive_timeout_s") or 90),
        ssl_keyfile=options.get("ssl_keyfile"),
        ssl_certfile=options.get("ssl_certfile"),
        ssl_keyfile_password=options.get("ssl_keyfile_password"),
        ssl_ca_certs=options.get("ssl_ca_certs"),
    )


class Connections:
    """HTTP connections of this process's, and what uvicorn's server does for them: the Date header, and their end."""

    def __init__(self, app: Callable[..., Any], options: dict[str, Any], protocol: type = PatientProtocol) -> None:
        self.state = ServerState()
        self._protocol = protocol
        self._config = config_of(app, options, protocol)
        self._config.load()
        self._loop = asyncio.get_running_loop()
        self._tasks: set[asyncio.Task[Any]] = set()
        self._tick()

    def _tick(self) -> None:
        date = time.strftime("%a, %d %b %Y %H:%M:%S GMT", time.gmtime()).encode()
        self.state.default_headers[:] = [(b"date", date)]
        self._timer = self._loop.call_later(1.0, self._tick)

    def adopt(self, connection: socket.socket) -> None:
        """Answer what comes on a connection."""
        connection.setblocking(False)
        self.run(self._loop.connect_accepted_socket(self._make, connection, ssl=self._config.ssl))

    @property
    def is_adopting(self) -> bool:
        """Whether a connection has come that is not among the others yet."""
        return bool(self._tasks)

    def _make(self) -> Any:
        return self._protocol(config=self._config, server_state=self.state, app_state={}, _loop=self._loop)

    def run(self, coroutine: Any) -> None:
        """In a task that is kept."""
        task = self._loop.create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._forget)

    def _forget(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            logger.debug("A connection could not be taken: %r", task.exception())

    async def close(self, wait_s: float) -> None:
        """Close idle connections at once, and the others after their answers, for so long at most."""
        end_s = time.monotonic() + wait_s
        for connection in list(self.state.connections):
            connection.shutdown()
        while self.state.connections and time.monotonic() < end_s:
            await asyncio.sleep(0.01)
        self._timer.cancel()


class HttpListener:
    """app: an ASGI application. options: an HTTPOptions as a dictionary. place(connection, adopt): asked about each new
    connection, which it gives away or adopts."""

    def __init__(
        self,
        app: Callable[..., Any],
        options: dict[str, Any],
        place: Callable[[socket.socket, Callable[[socket.socket], None]], Any] | None = None,
    ) -> None:
        self._options = options
        self._connections = Connections(app, options)
        self._place = place
        self._listening: socket.socket | None = None
        self.port = 0

    def listen(self, is_first: bool) -> int:
        """Answer on the port from now on; its number. is_first: nobody else may have it. RayServeException."""
        listening = self._listening = bind(self._options["host"], self._options["port"], is_first)
        listening.listen(BACKLOG)
        listening.setblocking(False)
        self.port = listening.getsockname()[1]
        asyncio.get_running_loop().add_reader(listening.fileno(), self._accept)
        return self.port

    def _accept(self) -> None:
        assert self._listening is not None
        for _ in range(ACCEPTED_AT_ONCE):
            try:
                connection, _ = self._listening.accept()
            except (BlockingIOError, InterruptedError):
                return
            except OSError as error:
                logger.warning("A connection could not be accepted: %r", error)
                return
            self.take(connection)

    def take(self, connection: socket.socket) -> None:
        """A connection that was accepted, here or elsewhere: somebody's."""
        connection.setblocking(False)
        if self._place is None:
            self._connections.adopt(connection)
        else:
            self._connections.run(self._place(connection, self._connections.adopt))

    async def close(self) -> None:
        """Accept nothing more; answer what has come, for two seconds at most."""
        if self._listening is not None:
            asyncio.get_running_loop().remove_reader(self._listening.fileno())
            self._listening.close()
            self._listening = None
        await self._connections.close(2.0)


def bind(host: str, port: int, is_first: bool) -> socket.socket:
    """A socket bound to it. RayServeException naming the port when somebody else has it."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        if is_first and port:
            with socket.socket(family, socket.SOCK_STREAM) as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                probe.bind((host, port))
                probe.listen(1)
        listening = socket.socket(family, socket.SOCK_STREAM)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        listening.bind((host, port))
        # TCP delays small writes otherwise, and answers are small.
        listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    except OSError as error:
        raise RayServeException(
            f"Serve cannot listen on {host}:{port}: {error.strerror or error}. Another program has the port (perhaps "
            "another cluster's Serve). Nothing was deployed. End that one, or give Serve another port: "
            "serve.start(http_options={'port': ...})."
        ) from None
    return listening
