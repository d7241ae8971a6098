"""Async lane: how many calls run at once on one loop, and who is next."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from raybook.worker.async_lane import AsyncLane


async def call(lane: AsyncLane, seen: list[Any], name: str, gate: asyncio.Event) -> None:
    """As the actor executor begins and ends a call."""
    if lane.free > 0:
        lane.free -= 1
    else:
        await lane.wait_for_slot()
    try:
        seen.append(name)
        await gate.wait()
    finally:
        lane.give_slot()


def run(test: Callable[[], Awaitable[None]]) -> None:
    asyncio.run(asyncio.wait_for(test(), 5))


async def settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


def test_as_many_calls_run_as_there_are_slots_and_the_others_follow_in_order():
    async def test() -> None:
        lane, seen = AsyncLane(asyncio.get_running_loop(), 2), []
        gates = {name: asyncio.Event() for name in "abcd"}
        calls = [asyncio.ensure_future(call(lane, seen, name, gate)) for name, gate in gates.items()]
        await settle()
        assert seen == ["a", "b"]
        gates["b"].set()
        await settle()
        assert seen == ["a", "b", "c"]
        for gate in gates.values():
            gate.set()
        await asyncio.gather(*calls)
        assert (seen, lane.free) == (["a", "b", "c", "d"], 2)

    run(test)


@pytest.mark.parametrize("is_given", [False, True], ids=["while it waits", "when its turn has just come"])
def test_a_call_cancelled_in_line_takes_nobodys_slot_along(is_given: bool):
    async def test() -> None:
        lane, seen = AsyncLane(asyncio.get_running_loop(), 1), []
        first, gate = asyncio.Event(), asyncio.Event()
        running = asyncio.ensure_future(call(lane, seen, "first", first))
        cancelled = asyncio.ensure_future(call(lane, seen, "cancelled", gate))
        last = asyncio.ensure_future(call(lane, seen, "last", gate))
        await settle()
        if is_given:
            first.set()
            # The slot is handed over inside this call's end; whoever waits for it has not run yet.
            running.add_done_callback(lambda _: cancelled.cancel())
            await settle()
        else:
            cancelled.cancel()
            await settle()
            first.set()
        gate.set()
        await asyncio.gather(running, last)
        with pytest.raises(asyncio.CancelledError):
            await cancelled
        assert seen[-1] == "last"
        assert lane.free == 1

    run(test)
