"""A Redis of one test: Debian's own server, at a Unix socket in a folder of the test's, gone when the test ends."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from pathlib import Path
from types import TracebackType

import redis

START_TIMEOUT_S = 10.0
POLL_S = 0.005


def redis_server() -> str:
    """The server's path. AssertionError that says what to install."""
    found = os.environ.get("REDIS_SERVER") or shutil.which("redis-server")
    assert found, "These tests need a Redis: install the package redis-server, or set REDIS_SERVER to its path."
    return found


class RedisProcess:
    """`with RedisProcess(folder) as server:` — `server.url` is its address. options: more of its own, as "--requirepass"."""

    def __init__(self, folder: Path, *options: str, password: str = "", keeps: bool = False) -> None:
        # A socket's path has 107 characters at most, and pytest's folders are deep.
        self._socket = Path(f"/tmp/rbr-{os.getpid()}-{time.monotonic_ns() % 10**9}.sock")
        self._log = folder / "redis.log"
        self.password = password
        credentials = f":{password}@" if password else ""
        self.url = f"unix://{credentials}{self._socket}"
        self._command = [
            *(redis_server(), "--port", "0", "--unixsocket", str(self._socket), "--unixsocketperm", "700"),
            *("--dir", str(folder), "--save", "", "--appendonly", "yes" if keeps else "no", "--appendfsync", "always"),
            *(("--requirepass", password) if password else ()),
            *options,
        ]
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> RedisProcess:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.kill()
        self._socket.unlink(missing_ok=True)

    def client(self) -> redis.Redis:
        """For looking into it."""
        return redis.Redis(unix_socket_path=str(self._socket), password=self.password or None)

    def start(self) -> None:
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(self._command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        deadline = time.monotonic() + START_TIMEOUT_S
        with self.client() as client:
            while True:
                try:
                    client.ping()
                    return
                except redis.exceptions.ConnectionError:
                    assert self._process.poll() is None, self._log.read_text()
                    assert time.monotonic() < deadline, f"Redis did not come up: {self._log.read_text()}"
                    time.sleep(POLL_S)

    def kill(self) -> None:
        """SIGKILL: what it had not written is gone."""
        process, self._process = self._process, None
        if process is not None:
            process.send_signal(signal.SIGKILL)
            process.wait()
