"""Node pages: ``/api/local_raylet_healthz`` at the port where Kubernetes' probes knock, answered while ``start`` stays.

"success" (200) while a node of this user on this machine accepts connections, 503 otherwise. Tells nothing else, so it
asks for no token.
"""

from __future__ import annotations

import socket
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType

from raybook.io import cluster_registry

PAGE = "/api/local_raylet_healthz"
CONNECT_S = 2.0


class NodePages:
    """A context manager. port None: no pages. OSError, from entering, when the port is taken."""

    def __init__(self, host: str, port: int | None) -> None:
        self._host, self._port = host, port
        self._server: ThreadingHTTPServer | None = None

    def __enter__(self) -> NodePages:
        if self._port is not None:
            self._server = ThreadingHTTPServer((self._host, self._port), _Handler)
            self._server.daemon_threads = True
            threading.Thread(target=self._server.serve_forever, daemon=True, name="raybook-probes").start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()


def is_node_up() -> bool:
    """Whether a node here accepts connections."""
    folder = cluster_registry.registry_dir()
    for record in (*cluster_registry.list_nodes(folder), *cluster_registry.list_records(folder)):
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
                probe.settimeout(CONNECT_S)
                probe.connect(record.node_socket.removeprefix("unix:"))
            return True
        except OSError:
            continue
    return False


class _Handler(BaseHTTPRequestHandler):
    server_version, sys_version = "raybook", ""
    timeout = 10

    def do_GET(self) -> None:
        if self.path.partition("?")[0] != PAGE:
            self._send(404, b"not found")
        elif is_node_up():
            self._send(200, b"success")
        else:
            self._send(503, b"No node of raybook accepts connections here.")

    def _send(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", "text/plain; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """A probe every five seconds is no news."""
