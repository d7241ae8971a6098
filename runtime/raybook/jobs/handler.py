"""Handler: Ray's REST of jobs, one request at a time, each on a thread of its own.

    GET    /api/version                       POST   /api/jobs/{id}/stop
    GET    /api/jobs/    POST /api/jobs/      GET    /api/jobs/{id}/logs     /api/jobs/{id}/logs/tail
    GET    /api/jobs/{id}  DELETE the same    GET, PUT /api/packages/gcs/{name}     GET /metrics
    GET, PUT, DELETE /api/serve/applications/ (``serve_pages``)
    GET    /api/healthz, /api/gcs_healthz, /api/authentication_mode: for everybody, since they tell nothing
Reads and writes HTTP; what happens is the manager's. Errors are text: 400 for a body that is none, 404 for no such job,
500 with a traceback for our own.
"""

from __future__ import annotations

import asyncio
import codecs
import json
import logging
import os
import re
import time
import traceback
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler
from typing import Any

from raybook.api.archives import is_kept, keep
from raybook.api.context import started_engine
from raybook.base.errors import RayError
from raybook.base.version import VERSION
from raybook.io.archives import ADDRESS_START, ARCHIVE_BYTES_MAX
from raybook.io.http_guard import check_visitor, visitor_of
from raybook.jobs import serve_pages, websocket
from raybook.jobs.manager import JobManager, JobNotFound
from raybook.jobs.records import JobDetails, JobType
from raybook.jobs.request import parse_request
from raybook.protocol.messages.gcs import ClusterStatus

logger = logging.getLogger(__name__)

API_VERSION = "4"
RAY_VERSION = "2.60.0"
"""Whose API this is: Ray's clients compare it."""
BODY_BYTES_MAX = 4 << 20
CHUNK_BYTES = 1 << 20
TAIL_LOOK_S = 0.1
"""How often a tail looks for more."""
ANSWER_S_MAX = 60.0


class Site:
    """What all requests share."""

    def __init__(
        self, manager: JobManager, loop: asyncio.AbstractEventLoop, token: str, bound_host: str, needs_token: bool,
        session_name: str, metrics_address: str,
    ) -> None:  # fmt: skip
        self.manager = manager
        self.loop = loop
        self.token = token
        self.bound_host = bound_host
        self.needs_token = needs_token
        self.session_name = session_name
        self.metrics_address = metrics_address

    def ask(self, coroutine: Any) -> Any:
        """A coroutine of the manager, from a request's thread."""
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop).result(ANSWER_S_MAX)


class JobsHandler(BaseHTTPRequestHandler):
    """One connection. ``site`` is set by who makes the server."""

    site: Site
    protocol_version = "HTTP/1.1"
    server_version = f"raybook/{VERSION}"
    sys_version = ""
    timeout = 30
    """Who connects and says nothing, or stops in the middle, is let go after so many seconds."""

    def log_message(self, format: str, *args: Any) -> None:
        logger.info("%s", format % args)

    def address_string(self) -> str:
        return str(self.client_address[0]) if self.client_address else "unix"

    def do_GET(self) -> None:
        self._answer("GET")

    def do_POST(self) -> None:
        self._answer("POST")

    def do_PUT(self) -> None:
        self._answer("PUT")

    def do_DELETE(self) -> None:
        self._answer("DELETE")

    def _answer(self, verb: str) -> None:
        site = self.site
        opened = _OPEN.get(self.path.partition("?")[0]) if verb == "GET" else None
        if opened is not None:
            opened(self)
            return
        refusal = check_visitor(
            visitor_of(self.connection, self.client_address),
            self.headers,
            site.token,
            os.getuid(),
            site.bound_host,
            site.needs_token,
        )
        if refusal is not None:
            self._refuse(refusal.status, refusal.text)
            return
        path = self.path.partition("?")[0]
        for method, expression, action in _ROUTES:
            match = expression.fullmatch(path)
            if match and method == verb:
                self._run(action, match)
                return
        self._refuse(404, f"There is no {verb} {path} here.")

    def _run(self, action: Callable[..., None], match: re.Match[str]) -> None:
        try:
            action(self, *match.groups())
        except JobNotFound as error:
            self._refuse(404, str(error))
        except (ValueError, TypeError, RuntimeError) as error:
            self._refuse(400, f"{type(error).__name__}: {error}")
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True
        except Exception:  # noqa: BLE001 - a request must not end the server; the asker gets the story.
            logger.exception("%s failed.", self.requestline)
            self._refuse(500, traceback.format_exc())

    # Answers

    def _refuse(self, status: int, text: str) -> None:
        # What is left of a body would be read as the next request.
        self.close_connection = True
        self._send(status, text.encode(), "text/plain; charset=utf-8")

    def _json(self, value: Any) -> None:
        self._send(200, json.dumps(value).encode(), "application/json")

    def _send(self, status: int, body: bytes, kind: str) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("X-Content-Type-Options", "nosniff")
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(body)

    def _body(self, bytes_max: int) -> int:
        """Bytes of the body. ValueError for one that is too large or does not say."""
        length = self.headers.get("Content-Length", "")
        if not length.isdigit():
            raise ValueError("The request must say its Content-Length.")
        if int(length) > bytes_max:
            raise ValueError(f"The body has {length} bytes; {bytes_max} are allowed.")
        return int(length)

    # Actions

    def health(self) -> None:
        """Whether the GCS answers, for probes."""
        try:
            started_engine().gcs_call("ClusterStatus", ClusterStatus())
        except (RayError, OSError, RuntimeError) as error:
            self._send(503, f"The GCS does not answer: {error}".encode(), "text/plain; charset=utf-8")
            return
        self._send(200, b"success", "text/plain; charset=utf-8")

    def authentication_mode(self) -> None:
        self._json({"authentication_mode": "token" if self.site.needs_token else "disabled"})

    def serve_applications(self) -> None:
        self._json(serve_pages.details())

    def serve_deploy(self) -> None:
        raw = self.rfile.read(self._body(BODY_BYTES_MAX))
        try:
            config = json.loads(raw)
        except ValueError as error:
            raise ValueError(f"The body is no JSON: {error}") from None
        serve_pages.deploy(config)
        self._json({})

    def serve_delete(self) -> None:
        serve_pages.delete()
        self._json({})

    def version(self) -> None:
        answer = {"version": API_VERSION, "ray_version": RAY_VERSION, "ray_commit": "", "raybook_version": VERSION}
        self._json({**answer, "session_name": self.site.session_name})

    def list_jobs(self) -> None:
        self._json([details.to_json() for details in self.site.ask(self.site.manager.all_details())])

    def submit(self) -> None:
        raw = self.rfile.read(self._body(BODY_BYTES_MAX))
        try:
            body = json.loads(raw)
        except ValueError as error:
            raise ValueError(f"The body is no JSON: {error}") from None
        submission = self.site.ask(self.site.manager.submit(parse_request(body)))
        self._json({"job_id": submission, "submission_id": submission})

    def get_job(self, name: str) -> None:
        self._json(self.site.ask(self.site.manager.details(name)).to_json())

    def delete(self, name: str) -> None:
        self._json({"deleted": self.site.ask(self.site.manager.delete(self._submission(name, "delete")))})

    def stop(self, name: str) -> None:
        self._json({"stopped": self.site.ask(self.site.manager.stop(self._submission(name, "stop")))})

    def logs(self, name: str) -> None:
        submission = self._submission(name, "get logs of")
        self._json({"logs": "".join(self._log_parts(submission, follow=False))})

    def tail(self, name: str) -> None:
        submission = self._submission(name, "get logs of")
        parts = self._log_parts(submission, follow=True)
        self.close_connection = True
        if "websocket" in self.headers.get("Upgrade", "").lower():
            self._send_frames(parts)
            return
        self.send_response(200)
        self.send_header("Content-Type", "text/plain; charset=utf-8")
        self.send_header("Connection", "close")
        self.end_headers()
        for part in parts:
            self.wfile.write(part.encode())
            self.wfile.flush()

    def _send_frames(self, parts: Iterator[str]) -> None:
        self.send_response(101)
        self.send_header("Upgrade", "websocket")
        self.send_header("Connection", "Upgrade")
        self.send_header("Sec-WebSocket-Accept", websocket.accept_key(self.headers.get("Sec-WebSocket-Key", "")))
        self.end_headers()
        for part in parts:
            self.wfile.write(websocket.text_frame(part))
        self.wfile.write(websocket.close_frame())

    def _log_parts(self, submission: str, follow: bool) -> Iterator[str]:
        """The log, in parts that end between characters; with ``follow`` until the job has ended."""
        manager = self.site.manager
        decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
        offset = 0
        while True:
            # Asked before reading: what comes between the two is read in the next round.
            has_ended = manager.find(submission).status.is_terminal()
            data = self.site.ask(manager.read_log(submission, offset, CHUNK_BYTES))
            offset += len(data)
            if text := decoder.decode(data, final=has_ended and not data):
                yield text
            if not data:
                if has_ended or not follow:
                    return
                time.sleep(TAIL_LOOK_S)

    def put_package(self, name: str) -> None:
        address = _address(name)
        length = self._body(ARCHIVE_BYTES_MAX)
        content = self.rfile.read(length)
        if len(content) < length:
            raise ConnectionResetError("The package was cut short.")
        keep(address, content)
        self._json({})

    def get_package(self, name: str) -> None:
        if not is_kept(_address(name)):
            self._refuse(404, f"Package gcs://{name} does not exist")
            return
        self._json({})

    def metrics(self) -> None:
        address = self.site.metrics_address
        if not address:
            self._refuse(404, "This cluster serves no metrics; start it with --metrics-export-port.")
            return
        try:
            page = urllib.request.Request(
                f"http://{address}/metrics", headers={"Authorization": f"Bearer {self.site.token}"}
            )
            with urllib.request.urlopen(page, timeout=ANSWER_S_MAX) as answer:
                self._send(200, answer.read(), answer.headers["Content-Type"])
        except urllib.error.URLError as error:
            self._refuse(502, f"The metrics page does not answer: {error}")

    def _submission(self, name: str, what: str) -> str:
        """The submission id of a job that has one."""
        details: JobDetails = self.site.ask(self.site.manager.details(name))
        if details.type is not JobType.SUBMISSION or details.submission_id is None:
            raise ValueError(f"Can only {what} submission type jobs, and {name} is a driver's.")
        return details.submission_id


_PACKAGE_NAME = re.compile(r"_ray_pkg_[0-9a-zA-Z_.-]{1,150}\.(zip|whl)")


def _address(name: str) -> str:
    if not _PACKAGE_NAME.fullmatch(name):
        raise ValueError(f"{name!r} is not the name of a package: {ADDRESS_START.rpartition('/')[2]}<hash>.zip.")
    return f"gcs://{name}"


_JOB = r"/api/jobs/([^/]+)"
_PACKAGE = "/api/packages/gcs/([^/]+)"
_ROUTES: list[tuple[str, re.Pattern[str], Callable[..., None]]] = [
    ("GET", re.compile("/api/version"), JobsHandler.version),
    ("GET", re.compile("/api/jobs/?"), JobsHandler.list_jobs),
    ("POST", re.compile("/api/jobs/?"), JobsHandler.submit),
    ("GET", re.compile(_JOB), JobsHandler.get_job),
    ("DELETE", re.compile(_JOB), JobsHandler.delete),
    ("POST", re.compile(_JOB + "/stop"), JobsHandler.stop),
    ("GET", re.compile(_JOB + "/logs"), JobsHandler.logs),
    ("GET", re.compile(_JOB + "/logs/tail"), JobsHandler.tail),
    ("PUT", re.compile(_PACKAGE), JobsHandler.put_package),
    ("GET", re.compile(_PACKAGE), JobsHandler.get_package),
    ("GET", re.compile("/metrics"), JobsHandler.metrics),
    ("GET", re.compile("/api/serve/applications/?"), JobsHandler.serve_applications),
    ("PUT", re.compile("/api/serve/applications/?"), JobsHandler.serve_deploy),
    ("DELETE", re.compile("/api/serve/applications/?"), JobsHandler.serve_delete),
]
_OPEN: dict[str, Callable[..., None]] = {
    "/api/healthz": JobsHandler.health,
    "/api/gcs_healthz": JobsHandler.health,
    "/api/authentication_mode": JobsHandler.authentication_mode,
}
