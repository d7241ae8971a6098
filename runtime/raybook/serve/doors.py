"""Doors: which connections a proxy gives to replicas, and the links by which it does.

A new connection's first request is looked at, not read: where one replica of this machine is all that its route leads to,
the replica gets the connection; else it stays with the proxy. Connections that a replica gives back are looked at anew.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Callable
from typing import Any

from raybook.serve.core.routes import RouteTable
from raybook.serve.handover import BYE, DONE, LEAVING, NOTED, HandoverLink, connect

logger = logging.getLogger("ray.serve")
LOOK_BYTES = 2048
FIRST_REQUEST_S = 0.2
"""A connection that says nothing for so long stays with the proxy."""


class Doors:
    """Of one proxy. on_returned: called with each connection that comes back."""

    def __init__(self, options: dict[str, Any]) -> None:
        self._options = options
        self._is_possible = not options.get("ssl_keyfile") and not options.get("root_path")
        self._table = RouteTable({})
        self._paths: dict[str, str] = {}
        self._links: dict[str, HandoverLink] = {}
        self._leaving: set[str] = set()
        self.on_returned: Callable[[socket.socket], None] | None = None
        self.given = 0

    def update(self, routes: dict[str, tuple[str, str, str]], paths: dict[str, str]) -> None:
        """routes: as the proxy has them; paths: prefix → where the one replica behind it takes connections."""
        if not self._is_possible:
            return
        self._table = RouteTable({prefix: prefix for prefix in routes if prefix.startswith("/")})
        self._paths = paths
        self._leaving &= self._links.keys()
        for path in set(paths.values()) - self._links.keys():
            self._open(path)
        for path, link in list(self._links.items()):
            if path in self._leaving:
                continue
            link.tell({"options": self._options, "routes": routes})

    def _open(self, path: str) -> None:
        try:
            link = connect(path)
        except OSError as error:
            logger.debug("The replica at %s takes no connections: %r", path, error)
            return
        self._links[path] = HandoverLink(
            link, self._returned, lambda told: self._hear(path, told), lambda: self._lost(path)
        )

    def _lost(self, path: str) -> None:
        self._links.pop(path, None)

    def _hear(self, path: str, told: Any) -> None:
        """The replica ends: it is given nothing more, and told so."""
        if told == LEAVING:
            self._leaving.add(path)
            self._links[path].tell(NOTED)
        elif told == DONE:
            self._links[path].tell(BYE)

    def _returned(self, connection: socket.socket) -> None:
        assert self.on_returned is not None
        self.on_returned(connection)

    async def place(self, connection: socket.socket, adopt: Callable[[socket.socket], None]) -> None:
        """Give a connection to whom its first request is for, or adopt it."""
        if self._links and self._paths:
            link = self._link_for(await _look(connection))
            if link is not None and link.give(connection):
                self.given += 1
                return
        adopt(connection)

    def _link_for(self, head: bytes) -> HandoverLink | None:
        words = head.split(b" ", 2)
        if len(words) < 3 or not words[1].startswith(b"/") or words[1].startswith(b"/-/"):
            return None
        found = self._table.match(words[1].split(b"?", 1)[0].decode("latin-1"))
        path = self._paths.get(found[0], "") if found is not None else ""
        return None if path in self._leaving else self._links.get(path)


async def _look(connection: socket.socket) -> bytes:
    """The beginning of what a connection says, unread; b"" when it says nothing."""
    loop = asyncio.get_running_loop()
    try:
        return connection.recv(LOOK_BYTES, socket.MSG_PEEK)
    except (BlockingIOError, InterruptedError):
        pass
    except OSError:
        return b""
    said: asyncio.Future[None] = loop.create_future()
    descriptor = connection.fileno()

    def note() -> None:
        loop.remove_reader(descriptor)
        if not said.done():
            said.set_result(None)

    loop.add_reader(descriptor, note)
    try:
        await asyncio.wait([said], timeout=FIRST_REQUEST_S)
    finally:
        loop.remove_reader(descriptor)
    try:
        return connection.recv(LOOK_BYTES, socket.MSG_PEEK)
    except OSError:
        return b""
