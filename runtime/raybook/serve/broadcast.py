"""Broadcast: one call of every replica of a deployment: what ``handle.broadcast`` returns.

The calls go out at once where the replicas are known, else when somebody waits for the results. They pass the queue and
its limits by: it is for control (drop a cache, read a setting), not for requests.
"""

from __future__ import annotations

import asyncio
import time
from typing import Any

from raybook.api import get as get_value
from raybook.exceptions import GetTimeoutError, RayTaskError
from raybook.serve.response import forbid_in_loop
from raybook.serve.router import Router


class DeploymentBroadcastResponse:
    """The results of all replicas that there were, in no particular order."""

    def __init__(self, router: Router, call: tuple, args: tuple, kwargs: dict[str, Any]) -> None:
        self._router = router
        self._call = (call, args, kwargs)
        self._refs: list[Any] | None = None
        if router.is_populated():
            self._send()

    def _send(self) -> list[Any]:
        if self._refs is None:
            call, args, kwargs = self._call
            self._refs = self._router.send_to_all(call, args, kwargs)
        return self._refs

    def results(self, *, timeout_s: float | None = None, return_exceptions: bool = False) -> list[Any]:
        """A result for each replica. return_exceptions: errors stand in the list, instead of being raised. TimeoutError;
        DeploymentUnavailableError."""
        forbid_in_loop("Use `await response.results_async()` instead.")
        return self._collect(_deadline(timeout_s), return_exceptions)

    async def results_async(self, *, timeout_s: float | None = None, return_exceptions: bool = False) -> list[Any]:
        """The same, awaited."""
        end_s = _deadline(timeout_s)
        return await asyncio.get_running_loop().run_in_executor(None, self._collect, end_s, return_exceptions)

    def _collect(self, end_s: float | None, return_exceptions: bool) -> list[Any]:
        if self._refs is None and not self._router.wait_until_known(_left(end_s)):
            raise TimeoutError("Timed out waiting for broadcast results.")
        found = []
        for ref in self._send():
            try:
                found.append(get_value(ref, timeout=_left(end_s)))
            except Exception as error:
                if isinstance(error, GetTimeoutError) and not isinstance(error, RayTaskError):
                    raise TimeoutError("Timed out waiting for broadcast results.") from None
                if not return_exceptions:
                    raise
                found.append(error)
        return found

    def __repr__(self) -> str:
        return "DeploymentBroadcastResponse()"


def _deadline(timeout_s: float | None) -> float | None:
    if timeout_s is not None and timeout_s < 0:
        raise ValueError("timeout_s must be None or non-negative.")
    return None if timeout_s is None else time.monotonic() + timeout_s


def _left(end_s: float | None) -> float | None:
    return None if end_s is None else max(0.0, end_s - time.monotonic())
