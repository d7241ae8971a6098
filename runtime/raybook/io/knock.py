"""Knock: whether anybody listens at a TCP port. The kernel there answers, so a busy or stopped process counts as there."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

PAUSES_S = (0.0, 0.1, 0.4, 1.5)
"""A process that ends in good order closes its port some moments after its connections."""


async def is_refused(address: str, timeout_s: float, pauses_s: Sequence[float] = PAUSES_S) -> bool:
    """Whether the machine of ``host:port`` is there and says that nobody listens, after one of these pauses. False when
    somebody does each time, and when there is no answer: that says nothing."""
    for pause_s in pauses_s:
        await asyncio.sleep(pause_s)
        if await _is_refused_now(address, timeout_s):
            return True
    return False


async def _is_refused_now(address: str, timeout_s: float) -> bool:
    host, _, port = address.rpartition(":")
    try:
        _, writer = await asyncio.wait_for(asyncio.open_connection(host, int(port)), timeout_s)
    except ConnectionRefusedError:
        return True
    except (OSError, ValueError, TimeoutError, asyncio.TimeoutError):
        return False
    writer.transport.abort()
    return False
