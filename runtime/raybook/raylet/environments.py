"""Environments: makes what workers of each runtime environment need, before the pool starts any of them.

Folders are looked at, packages are installed in a thread; requests wait meanwhile and do not time out. A failure goes to
everything that waits for the environment, and the next request tries again: networks come back.
"""

from __future__ import annotations

import asyncio
import logging
import os
import threading
from collections.abc import Callable
from contextlib import suppress
from functools import partial

from raybook.base.environments import Environment, environment_of, short_name
from raybook.runtime_env.packages import prepare
from raybook.runtime_env.plan import EnvironmentFailed, WorkerPlan, make_plan

logger = logging.getLogger(__name__)

PLAIN_PLAN = WorkerPlan()


class Environments:
    """ready(key, count): workers can be started now. failed(key, text): never mind. say(line): progress for people."""

    def __init__(
        self, ready: Callable[[str, int], None], failed: Callable[[str, str], None], say: Callable[[str], None]
    ) -> None:
        self._ready = ready
        self._failed = failed
        self._say = say
        self._plans: dict[str, WorkerPlan] = {"": PLAIN_PLAN}
        self._wanted: dict[str, int] = {}
        """Environments being made → how many workers are wanted of each."""
        self._tasks: dict[str, asyncio.Task[None]] = {}

    def plan(self, key: str) -> WorkerPlan:
        """Of an environment that is ready."""
        return self._plans[key]

    def want(self, key: str, count: int) -> None:
        """So many workers are lacking; ``ready`` or ``failed`` is called for them, at once if it is known."""
        if key in self._plans:
            self._ready(key, count)
            return
        self._wanted[key] = count
        if count and key not in self._tasks:
            self._tasks[key] = asyncio.get_running_loop().create_task(self._make(key))

    def broken(self, key: str, text: str) -> None:
        """A worker of it died before it was of use: a hook that raises, an interpreter that does not start."""
        self._plans.pop(key, None)
        self._failed(key, f"{_title(key)} could not be set up: {text}")

    def close(self) -> None:
        """Wait for nothing any more."""
        for task in self._tasks.values():
            task.cancel()

    async def _make(self, key: str) -> None:
        environment = environment_of(key)
        interpreter = ""
        try:
            if environment.packages:
                interpreter = await self._install(environment)
            self._plans[key] = make_plan(environment, os.environ, interpreter)
        except (EnvironmentFailed, OSError) as failure:
            logger.error("%s could not be set up: %s", _title(key), failure)
            self._wanted.pop(key, None)
            self._failed(key, f"{_title(key)} could not be set up: {failure}")
        else:
            self._ready(key, self._wanted.pop(key, 0))
        finally:
            self._tasks.pop(key, None)

    async def _install(self, environment: Environment) -> str:
        """``prepare`` in a thread of its own; the node's end does not wait for it, and kills the installer with all other
        descendants."""
        loop = asyncio.get_running_loop()
        done: asyncio.Future[str] = loop.create_future()

        def tell(function: Callable[..., object], *arguments: object) -> None:
            with suppress(RuntimeError):  # The loop is closed: there is nobody to tell.
                loop.call_soon_threadsafe(function, *arguments)

        def settle(interpreter: str, failure: Exception | None) -> None:
            if done.done():
                return
            if failure is None:
                done.set_result(interpreter)
            else:
                done.set_exception(failure)

        def work() -> None:
            try:
                interpreter = prepare(environment, os.environ, partial(tell, self._say))
            except (EnvironmentFailed, OSError) as failure:
                tell(settle, "", failure)
            else:
                tell(settle, interpreter, None)

        threading.Thread(target=work, name="raybook-installer", daemon=True).start()
        return await done


def _title(key: str) -> str:
    return f"The runtime environment {short_name(key)}"
