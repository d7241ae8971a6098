"""HTTP listener: a port of this machine, and the uvicorn server on this process's event loop that answers it.

The port is checked before it is shared: the first listener of a service finds out whether somebody else has it; further
ones (a proxy that starts again, replicas that listen themselves) join it with SO_REUSEPORT. Connections that do not finish
their request's head in time are closed.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Callable
from typing import Any

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from raybook.serve.exceptions import RayServeException

HEAD_TIMEOUT_S = 15.0
"""As nginx's client_header_timeout, a quarter of it: a head is one packet."""
BACKLOG = 4096


class PatientProtocol(HttpToolsProtocol):
    """uvicorn's, with a limit to how long a request's head, or a silence in its body, may last."""

    _silence: asyncio.TimerHandle | None = None
    _is_reading = True
    head_timeout_s = HEAD_TIMEOUT_S

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self._await_more()

    def on_message_begin(self) -> None:
        self._is_reading = True
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


class HttpListener:
    """app: an ASGI application. options: an HTTPOptions as a dictionary."""

    def __init__(self, app: Callable[..., Any], options: dict[str, Any]) -> None:
        self._app = app
        self._options = options
        self._server: uvicorn.Server | None = None
        self._task: asyncio.Task[None] | None = None
        self.port = 0

    async def listen(self, is_first: bool) -> int:
        """Answer on the port from now on; its number. is_first: nobody else may have it. RayServeException."""
        options = self._options
        listening = bind(options["host"], options["port"], is_first)
        self.port = listening.getsockname()[1]
        config = uvicorn.Config(
            self._app,
            loop="none",
            http=PatientProtocol,
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
        server = self._server = _Server(config)
        self._task = asyncio.get_running_loop().create_task(server.serve(sockets=[listening]))
        while not server.started:
            if self._task.done():
                self._task.result()
            await asyncio.sleep(0.002)
        return self.port

    async def close(self) -> None:
        """Accept nothing more; answer what has come, for two seconds at most."""
        if self._server is None or self._task is None:
            return
        self._server.config.timeout_graceful_shutdown = 2
        self._server.should_exit = True
        await asyncio.wait([self._task], timeout=4.0)


class _Server(uvicorn.Server):
    @contextlib.contextmanager
    def capture_signals(self) -> Any:
        """Signals are the worker's business."""
        yield


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
