"""Load: keep-alive HTTP connections that ask one after the other, from a process of its own; prints figures as JSON.

A client of raw sockets on one event loop: it must cost less than what it measures. Usage: ``python serve_load.py URL
CONNECTIONS SECONDS``.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from urllib.parse import urlsplit

WARM_UP_S = 0.5


class Connection(asyncio.Protocol):
    """One request at a time, again and again."""

    def __init__(self, request: bytes, latencies: list[float], failures: list[str], end_s: float) -> None:
        self._request = request
        self._latencies = latencies
        self._failures = failures
        self._end_s = end_s
        self._left = -1
        self._head = b""
        self.over: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport
        self._ask()

    def _ask(self) -> None:
        self._start_s = time.perf_counter()
        self._transport.write(self._request)  # type: ignore[attr-defined]

    def data_received(self, data: bytes) -> None:
        if self._left < 0:
            self._head += data
            head, found, body = self._head.partition(b"\r\n\r\n")
            if not found:
                return
            if not head.startswith(b"HTTP/1.1 200"):
                self._failures.append(head.split(b"\r\n")[0].decode())
            lower = head.lower()
            at = lower.find(b"content-length:")
            self._left = int(lower[at + 15 :].split(b"\r\n", 1)[0]) - len(body)
            self._head = b""
        else:
            self._left -= len(data)
        if self._left <= 0:
            self._left = -1
            now = time.perf_counter()
            self._latencies.append(now - self._start_s)
            if now < self._end_s:
                self._ask()
            else:
                self._transport.close()

    def connection_lost(self, error: Exception | None) -> None:
        if time.perf_counter() < self._end_s:
            self._failures.append(f"lost: {error!r}")
        if not self.over.done():
            self.over.set_result(None)


async def measure(url: str, connections: int, seconds: float) -> dict[str, float | int | list[str]]:
    parts = urlsplit(url)
    request = f"GET {parts.path or '/'} HTTP/1.1\r\nHost: {parts.netloc}\r\n\r\n".encode()
    loop = asyncio.get_running_loop()

    async def play(duration_s: float) -> tuple[list[float], list[str], float]:
        latencies: list[float] = []
        failures: list[str] = []
        start_s = time.perf_counter()
        made = []
        for _ in range(connections):
            made.append(
                await loop.create_connection(
                    lambda: Connection(request, latencies, failures, start_s + duration_s), parts.hostname, parts.port
                )
            )
        await asyncio.wait([connection.over for _, connection in made], timeout=duration_s + 20)
        return latencies, failures, time.perf_counter() - start_s

    await play(WARM_UP_S)
    latencies, failures, took_s = await play(seconds)
    latencies.sort()
    return {
        "requests_per_s": len(latencies) / took_s,
        "p50_ms": latencies[len(latencies) // 2] * 1000,
        "p99_ms": latencies[min(len(latencies) - 1, int(len(latencies) * 0.99))] * 1000,
        "requests": len(latencies),
        "failed": len(failures),
        "failures": failures[:5],
    }


if __name__ == "__main__":
    print(json.dumps(asyncio.run(measure(sys.argv[1], int(sys.argv[2]), float(sys.argv[3])))))
