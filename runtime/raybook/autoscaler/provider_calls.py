"""Provider calls: a provider's methods in threads, one call of each method at a time, with a time limit.

A method that hangs keeps its thread and is not called again until it has returned; the autoscaler goes on without it and
says so. Threads are daemons: a provider that never returns does not keep the process.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from typing import Any, TypeVar

Result = TypeVar("Result")
TIMEOUT_S = 120.0
"""Cloud APIs answer in seconds; what takes longer is held for hanging."""


class ProviderTrouble(Exception):
    """A method raised, or hangs. The text is for people."""


class ProviderCalls:
    """timeout_s: of each call."""

    def __init__(self, timeout_s: float = TIMEOUT_S) -> None:
        self._timeout_s = timeout_s
        self._locks: dict[str, asyncio.Lock] = {}
        self._running: dict[str, float] = {}

    async def call(self, method: Callable[..., Result], *arguments: Any) -> Result:
        """What the method returns. ProviderTrouble when it raises, does not return in time, or has not returned since an
        earlier call. Calls of one method wait for each other."""
        name = method.__name__
        self._check_returned(name)
        async with self._locks.setdefault(name, asyncio.Lock()):
            self._check_returned(name)
            loop = asyncio.get_running_loop()
            done: asyncio.Future[Result] = loop.create_future()
            self._running[name] = time.monotonic()

            def run() -> None:
                try:
                    result, error = method(*arguments), None
                except BaseException as caught:  # noqa: BLE001 Whatever a stranger's code raises, SystemExit too, is an answer.
                    result, error = None, caught
                try:
                    loop.call_soon_threadsafe(self._returned, name, done, result, error)
                except RuntimeError:
                    pass  # The loop is closed: nobody waits any more.

            threading.Thread(target=run, name=f"provider-{name}", daemon=True).start()
            try:
                return await asyncio.wait_for(asyncio.shield(done), self._timeout_s)
            except (TimeoutError, asyncio.TimeoutError):
                raise ProviderTrouble(f"{name} has not returned for {self._timeout_s:g} s") from None

    def _check_returned(self, name: str) -> None:
        began = self._running.get(name)
        if began is not None and time.monotonic() - began >= self._timeout_s:
            raise ProviderTrouble(
                f"{name} has not returned for {time.monotonic() - began:.0f} s, and is not called again"
            )

    def _returned(self, name: str, done: asyncio.Future[Any], result: Any, error: BaseException | None) -> None:
        self._running.pop(name, None)
        if done.done():
            return
        if error is None:
            done.set_result(result)
        else:
            done.set_exception(ProviderTrouble(f"{name} raised {type(error).__name__}: {error}"))
            done.exception()  # Looked at, should nobody wait for it any more.
