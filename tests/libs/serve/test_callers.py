"""Callers and their pictures of deployments: who is waited for before a replica ends; in this process."""

from __future__ import annotations

import asyncio

from raybook.serve import callers as module
from raybook.serve.callers import Callers

KEY = ("app", "D")


def test_everybody_who_knows_an_older_picture_is_waited_for():
    async def story():
        callers = Callers()
        callers.note(KEY, "one", (7, 1))
        callers.note(KEY, "two", (7, 2))
        callers.note(("app", "other"), "three", (7, 1))
        waiting = asyncio.ensure_future(callers.know(KEY, (7, 2)))
        await asyncio.sleep(0)
        assert not waiting.done()
        callers.note(KEY, "one", (7, 3))
        await waiting
        await callers.know(KEY, (7, 2))

    asyncio.run(story())


def test_a_picture_of_an_older_controller_counts_as_old():
    async def story():
        callers = Callers()
        callers.note(KEY, "one", (6, 9))
        waiting = asyncio.ensure_future(callers.know(KEY, (7, 1)))
        await asyncio.sleep(0)
        assert not waiting.done()
        callers.note(KEY, "one", (7, 1))
        await waiting

    asyncio.run(story())


def test_a_caller_that_does_not_ask_again_is_waited_for_once(monkeypatch):
    monkeypatch.setattr(module, "PATIENCE_S", 0.01)

    async def story():
        callers = Callers()
        callers.note(KEY, "dead", None)
        await callers.know(KEY, (7, 1))
        assert callers._late(KEY, (7, 1)) == []

    asyncio.run(story())


def test_nobody_waits_for_a_caller_that_has_ended():
    async def story():
        callers = Callers()
        callers.note(KEY, "ended", (7, 1))
        waiting = asyncio.ensure_future(callers.know(KEY, (7, 2)))
        await asyncio.sleep(0)
        callers.forget("ended")
        await waiting

    asyncio.run(story())
