"""HTTP server with bounds: a thread for each connection, and no more of them than ``CONNECTIONS_MAX``.

Whoever comes when all are taken is hung up on. How long a connection may be silent is its handler's ``timeout``. Serves a
socket that listens already.
"""

from __future__ import annotations

import http.server
import logging
import socket
import sys
import threading
from typing import Any

logger = logging.getLogger(__name__)

CONNECTIONS_MAX = 128


class BoundedServer(http.server.ThreadingHTTPServer):
    """listening: becomes this server's."""

    daemon_threads = True

    def __init__(self, listening: socket.socket, handler: type[http.server.BaseHTTPRequestHandler]) -> None:
        # Not the base's: it would make a socket of its own, and look its name up.
        super(http.server.HTTPServer, self).__init__(("", 0), handler, bind_and_activate=False)
        self.socket.close()
        self.socket = listening
        self.server_name, self.server_port = "raybook", 0
        self._places = threading.BoundedSemaphore(CONNECTIONS_MAX)

    def process_request(self, request: Any, client_address: Any) -> None:
        """A connection: a thread for it, if there is a place."""
        if not self._places.acquire(blocking=False):
            self.shutdown_request(request)
            return
        try:
            super().process_request(request, client_address)
        except BaseException:
            self._places.release()
            raise

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """The thread's life."""
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._places.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A connection that broke is no news; anything else is logged."""
        error = sys.exc_info()[1]
        if not isinstance(error, (ConnectionError, TimeoutError)):
            logger.error("A request of %s failed.", client_address or "a local process", exc_info=error)
