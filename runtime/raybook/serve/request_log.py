"""Request log: what one replica has answered: a line each in its log, and figures for the panel and `status`.

Lines go to the logger "ray.serve" and so to this worker's log, which `raybook logs` and the panel find by replica.
Invariant: the figures cost a request under a microsecond; lines are written only when access logs are on.
"""

from __future__ import annotations

import logging
import sys
import time
from collections import deque
from typing import Any

from raybook.serve.core.names import ReplicaID

WINDOW = 1000
"""Requests that percentiles are taken of."""
LOGGER_NAME = "ray.serve"


class RequestLog:
    """Of one replica."""

    def __init__(self, replica: ReplicaID) -> None:
        self._replica = replica
        self._durations: deque[tuple[float, float]] = deque(maxlen=WINDOW)
        self._requests = 0
        self._errors = 0
        self._logger = logging.getLogger(LOGGER_NAME)
        self._is_on = True
        self._last_error = ""

    def configure(self, config: dict[str, Any] | None) -> None:
        """A LoggingConfig as a dictionary: level, encoding, whether there are access logs."""
        config = config or {}
        self._is_on = bool(config.get("enable_access_log", True))
        level = config.get("log_level", "INFO")
        self._logger.setLevel(level if isinstance(level, int) else str(level).upper())
        as_json = str(getattr(config.get("encoding", "TEXT"), "value", config.get("encoding", "TEXT"))) == "JSON"
        identity = self._replica.deployment_id
        if as_json:
            layout = (
                '{"asctime": "%(asctime)s", "levelname": "%(levelname)s", "message": "%(message)s", '
                f'"deployment": "{identity.name}", "application": "{identity.app_name}", '
                f'"replica": "{self._replica.unique_id}"}}'
            )
        else:
            shown = f"{identity.app_name}_{identity.name} {self._replica.unique_id}"
            layout = f"%(levelname)s %(asctime)s {shown} -- %(message)s"
        handler = logging.StreamHandler(sys.stderr)
        handler.setFormatter(logging.Formatter(layout))
        self._logger.handlers[:] = [handler]
        self._logger.propagate = False

    def note(self, call: tuple, start_s: float, error: BaseException | None) -> None:
        """A call by handle is over."""
        self._count(start_s, error)
        if error is not None and self._is_on and isinstance(error, Exception):
            self._logger.info("CALL %s ERROR %.1fms request_id=%s", call[0], _ms(start_s), call[1])

    def note_http(self, call: tuple, scope: dict[str, Any], start_s: float, error: BaseException | None) -> None:
        """An HTTP request is over."""
        self._count(start_s, error)
        if error is not None and self._is_on:
            self._logger.info(
                "%s %s ERROR %.1fms request_id=%s", scope.get("method", "WS"), scope.get("path"), _ms(start_s), call[1]
            )

    def _count(self, start_s: float, error: BaseException | None) -> None:
        now = time.perf_counter()
        self._requests += 1
        self._durations.append((now, now - start_s))
        if error is not None:
            self._errors += 1
            self._last_error = f"{type(error).__name__}: {error}"

    def statistics(self) -> dict[str, Any]:
        """requests and errors so far; requests a second over the window, latencies in milliseconds."""
        window = list(self._durations)
        figures: dict[str, Any] = {
            "requests": self._requests, "errors": self._errors, "last_error": self._last_error,
            "qps": 0.0, "p50_ms": 0.0, "p95_ms": 0.0, "p99_ms": 0.0,
        }  # fmt: skip
        recent = [entry for entry in window if entry[0] > time.perf_counter() - 10.0]
        if recent:
            span_s = max(0.1, time.perf_counter() - recent[0][0])
            figures["qps"] = len(recent) / span_s
            durations = sorted(duration for _, duration in recent)
            for name, share in (("p50_ms", 0.5), ("p95_ms", 0.95), ("p99_ms", 0.99)):
                figures[name] = durations[min(len(durations) - 1, int(len(durations) * share))] * 1000
        return figures


def _ms(start_s: float) -> float:
    return (time.perf_counter() - start_s) * 1000
