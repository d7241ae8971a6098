"""Callers: who sends requests to which deployment, and which picture of it each has.

A replica that is to end must be known to nobody as running before it may: a request sent to it later would be lost. A caller
says what it knows by asking for more. Invariant: nobody is waited for longer than `PATIENCE_S`; a caller that let that time
pass is forgotten until it asks again.
"""

from __future__ import annotations

import asyncio
from typing import Any

PATIENCE_S = 5.0
"""As long as a very busy process may take to hear of it; one that is dead costs this once."""
Key = tuple[str, str]


class Callers:
    """Of all deployments. Versions are (maker, number), and numbers grow."""

    def __init__(self) -> None:
        self._known: dict[Key, dict[str, Any]] = {}
        self._waiting: list[asyncio.Future[None]] = []

    def note(self, key: Key, caller: str, version: Any) -> None:
        """A caller has this version."""
        self._known.setdefault(key, {})[caller] = version
        self._wake()

    def forget(self, caller: str) -> None:
        """It has ended."""
        for known in self._known.values():
            known.pop(caller, None)
        self._wake()

    def _wake(self) -> None:
        waiting, self._waiting = self._waiting, []
        for future in waiting:
            if not future.done():
                future.set_result(None)

    async def know(self, key: Key, version: tuple[int, int]) -> None:
        """Until every caller of a deployment has this version or a later one."""
        loop = asyncio.get_running_loop()
        end_s = loop.time() + PATIENCE_S
        while late := self._late(key, version):
            left_s = end_s - loop.time()
            if left_s <= 0:
                for caller in late:
                    self._known[key].pop(caller, None)
                return
            news: asyncio.Future[None] = loop.create_future()
            self._waiting.append(news)
            await asyncio.wait([news], timeout=left_s)

    def _late(self, key: Key, version: tuple[int, int]) -> list[str]:
        return [caller for caller, known in self._known.get(key, {}).items() if not _is_at_least(known, version)]


def _is_at_least(known: Any, version: tuple[int, int]) -> bool:
    """A version of another maker (a controller before this one, or none) is another picture: it counts as old."""
    return isinstance(known, tuple) and known[0] == version[0] and known[1] >= version[1]
