"""HTTP client: one request at a time to a jobs server, by its address or through a cluster's Unix socket."""

from __future__ import annotations

import http.client
import json
import os
import socket
import ssl
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import urlsplit

from raybook.io.cluster_registry import ClusterRecord, list_records, registry_dir
from raybook.io.http_door import SOCKET_NAME

ADDRESS_VARIABLES = ("RAYBOOK_API_SERVER_ADDRESS", "RAY_API_SERVER_ADDRESS", "RAYBOOK_ADDRESS", "RAY_ADDRESS")
TOKEN_VARIABLES = ("RAYBOOK_AUTH_TOKEN", "RAY_AUTH_TOKEN")
TIMEOUT_S = 120.0
CHUNK_BYTES = 1 << 16


class Answer:
    """What came back. status: of HTTP; body: bytes."""

    def __init__(self, status: int, body: bytes) -> None:
        self.status = status
        self.body = body

    def json(self) -> Any:
        """The decoded body."""
        return json.loads(self.body)

    @property
    def text(self) -> str:
        """The body as text."""
        return self.body.decode(errors="replace")


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: str) -> None:
        super().__init__("localhost", timeout=TIMEOUT_S)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


class JobsHttp:
    """A server. address: what the user said, None for the cluster that the environment names, or the newest here.
    ConnectionError when there is no such cluster."""

    def __init__(self, address: str | None, headers: Mapping[str, str], verify: bool | str | None = True) -> None:
        chosen = address or next((os.environ[name] for name in ADDRESS_VARIABLES if os.environ.get(name)), "auto")
        self._headers = dict(headers)
        self._verify = verify
        self._url = urlsplit(chosen) if chosen.startswith(("http://", "https://")) else None
        self._socket = ""
        record = None
        if self._url is None:
            record = _record_of(chosen)
            self._socket = f"{record.session_dir}/{SOCKET_NAME}"
        self.address = chosen if self._url is not None else f"unix:{self._socket}"
        token = next((os.environ[name] for name in TOKEN_VARIABLES if os.environ.get(name)), "")
        if self._url is not None and not token:
            token = _token_of_local(self._url.netloc)
        if token and "Authorization" not in self._headers:
            self._headers["Authorization"] = f"Bearer {token}"

    def ask(self, verb: str, path: str, body: Any = None, data: Any = None, size: int = 0) -> Answer:
        """One request. body: sent as JSON; data, size: a file, sent as it is. ConnectionError when nobody answers."""
        connection, answer = self._send(verb, path, body, data, size)
        try:
            return Answer(answer.status, answer.read())
        except (OSError, http.client.HTTPException) as error:
            raise self._no_answer(error) from None
        finally:
            connection.close()

    def stream(self, path: str) -> Iterator[bytes]:
        """The body of a GET as it comes. RuntimeError for an answer that is an error, ConnectionError."""
        connection, answer = self._send("GET", path, None, None, 0)
        try:
            # How long until more comes is the job's affair.
            if connection.sock is not None:
                connection.sock.settimeout(None)
            if answer.status != 200:
                raise_error(Answer(answer.status, answer.read()))
            while data := answer.read1(CHUNK_BYTES):
                yield data
        except (OSError, http.client.HTTPException) as error:
            raise self._no_answer(error) from None
        finally:
            connection.close()

    def _send(
        self, verb: str, path: str, body: Any, data: Any, size: int
    ) -> tuple[http.client.HTTPConnection, http.client.HTTPResponse]:
        headers = dict(self._headers)
        content: Any = data
        if data is not None:
            headers["Content-Length"] = str(size)
        elif body is not None or verb == "POST":
            content = json.dumps(body if body is not None else {}).encode()
            headers["Content-Type"] = "application/json"
        connection = self._connection()
        try:
            connection.request(verb, (self._url.path.rstrip("/") if self._url else "") + path, content, headers)
            return connection, connection.getresponse()
        except (OSError, http.client.HTTPException) as error:
            connection.close()
            raise self._no_answer(error) from None

    def _connection(self) -> http.client.HTTPConnection:
        if self._url is None:
            return _UnixConnection(self._socket)
        host, port = self._url.hostname or "", self._url.port
        if self._url.scheme == "https":
            return http.client.HTTPSConnection(host, port, timeout=TIMEOUT_S, context=self._tls())
        return http.client.HTTPConnection(host, port, timeout=TIMEOUT_S)

    def _tls(self) -> ssl.SSLContext:
        if isinstance(self._verify, str):
            folder = os.path.isdir(self._verify)
            return (
                ssl.create_default_context(capath=self._verify)
                if folder
                else ssl.create_default_context(cafile=self._verify)
            )
        context = ssl.create_default_context()
        if not self._verify:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        return context

    def _no_answer(self, error: Exception) -> ConnectionError:
        return ConnectionError(
            f"Failed to connect to Ray at address: {self.address} ({error}). Is the cluster running, and is this the "
            "address of its dashboard? `raybook status` lists the clusters of this machine."
        )


def raise_error(answer: Answer) -> None:
    """RuntimeError with what the server said."""
    raise RuntimeError(f"Request failed with status code {answer.status}: {answer.text}.")


def _record_of(address: str) -> ClusterRecord:
    records = list_records(registry_dir())[::-1]
    if address == "auto":
        if records:
            return records[0]
        raise ConnectionError("No cluster is running on this machine. Start one, or pass the address of a jobs server.")
    plain = address.removeprefix("ray://")
    for record in records:
        names = {
            record.name,
            record.cluster_id,
            record.address,
            record.node_socket,
            record.http_address,
            record.session_dir,
        }
        if plain in names - {""}:
            return record
    raise ConnectionError(
        f"No cluster {address!r} is running on this machine. Name one that `raybook status` lists, or pass the address of a "
        "jobs server: http://host:8265."
    )


def _token_of_local(netloc: str) -> str:
    """The token of the cluster of this user on this machine that serves there."""
    for record in list_records(registry_dir()):
        if record.http_address and record.http_address.rpartition(":")[2] == netloc.rpartition(":")[2]:
            try:
                with open(record.token_file, "rb") as file:
                    return file.read().hex()
            except OSError:
                continue
    return ""
