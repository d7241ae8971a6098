"""Environments: makes what workers of each runtime environment need, before the pool starts any of them.

Archives are fetched and unpacked once a node, packages are installed, all in threads; requests wait meanwhile. A failure
goes to everything that waits for the environment, and the next request tries again: networks come back.
"""

from __future__ import annotations

import asyncio
import logging
import os
import threading
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec

from raybook.base.environments import environment_of, short_name
from raybook.io.archives import ADDRESS_START
from raybook.io.channel import RemoteError
from raybook.protocol.messages.gcs import ARCHIVES_NAMESPACE, ArchivePieces, KvGet
from raybook.raylet.notices import NoticeBoard
from raybook.runtime_env.downloads import download, place
from raybook.runtime_env.packages import prepare
from raybook.runtime_env.plan import EnvironmentFailed, WorkerPlan, make_plan

logger = logging.getLogger(__name__)

ENVIRONMENTS = "environments"
"""The folder of a session in which archives are unpacked."""
PLAIN_PLAN = WorkerPlan()


class Environments:
    """ready(key, count): workers can be started now. failed(key, text): never mind. say(line): progress for people.
    call_gcs(method, request): its answer; archives come from its key-value table. folder: where they are unpacked.
    notices: where it is told how each of them went."""

    def __init__(
        self,
        ready: Callable[[str, int], None],
        failed: Callable[[str, str], None],
        say: Callable[[str], None],
        call_gcs: Callable[[str, Any], Awaitable[Any]],
        folder: Path,
        notices: NoticeBoard,
    ) -> None:
        self._ready = ready
        self._failed = failed
        self._say = say
        self._call_gcs = call_gcs
        self._folder = folder
        self._notices = notices
        self._plans: dict[str, WorkerPlan] = {"": PLAIN_PLAN}
        self._wanted: dict[str, int] = {}
        """Environments being made → how many workers are wanted of each."""
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._unpacking: dict[str, asyncio.Lock] = {}

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
        self._tell_failure(key, text, 0)

    def close(self) -> None:
        """Wait for nothing any more."""
        for task in self._tasks.values():
            task.cancel()

    async def _make(self, key: str) -> None:
        environment = environment_of(key)
        interpreter = ""
        began = time.monotonic()
        try:
            folders = {}
            for address in filter(None, (environment.working_dir, *environment.py_modules)):
                folders[address] = await self._folder_in_time(address, environment.setup_timeout_s)
            if environment.packages or environment.conda:
                interpreter = await in_thread(prepare, environment, os.environ, self._say_from_thread())
            self._plans[key] = make_plan(environment, os.environ, folders, interpreter)
        except (EnvironmentFailed, OSError, RemoteError) as failure:
            logger.error("%s could not be set up: %s", _title(key), failure)
            self._wanted.pop(key, None)
            self._tell_failure(key, str(failure), _ms_since(began))
        else:
            self._notices.environment(key, _ms_since(began), "")
            self._ready(key, self._wanted.pop(key, 0))
        finally:
            self._tasks.pop(key, None)

    def _tell_failure(self, key: str, text: str, took_ms: int) -> None:
        text = f"{_title(key)} could not be set up: {text}"
        self._notices.environment(key, took_ms, text)
        self._failed(key, text)

    def _say_from_thread(self) -> Callable[[str], None]:
        loop = asyncio.get_running_loop()

        def say(line: str) -> None:
            with suppress(RuntimeError):  # The loop is closed: there is nobody to tell.
                loop.call_soon_threadsafe(self._say, line)

        return say

    async def _folder_in_time(self, address: str, limit_s: int) -> str:
        try:
            return await asyncio.wait_for(self._folder_of(address), limit_s if limit_s > 0 else None)
        except (TimeoutError, asyncio.TimeoutError):
            raise EnvironmentFailed(f"{address} was not here within {limit_s} s (setup_timeout_seconds).") from None

    async def _folder_of(self, address: str) -> str:
        """Where an archive lies unpacked on this node."""
        target = self._folder / short_name(address)
        async with self._unpacking.setdefault(address, asyncio.Lock()):
            if not target.is_dir():
                if address.startswith(ADDRESS_START):
                    content = await self._fetch(address)
                else:
                    self._say(f"fetching {address}")
                    content = await in_thread(download, address)
                await in_thread(place, address, content, target)
        return str(target)

    async def _fetch(self, address: str) -> bytes:
        reply = await self._call_gcs("KvGet", KvGet(ARCHIVES_NAMESPACE, address.encode()))
        if reply.value is None:
            raise EnvironmentFailed(f"The cluster does not have the archive {address}. Give the folder again.")
        pieces = msgspec.msgpack.decode(reply.value, type=ArchivePieces).pieces
        content = bytearray()
        for number in range(pieces):
            reply = await self._call_gcs("KvGet", KvGet(ARCHIVES_NAMESPACE, f"{address}#{number}".encode()))
            if reply.value is None:
                raise EnvironmentFailed(f"Piece {number} of {pieces} of the archive {address} is missing.")
            content += reply.value
        return bytes(content)


def _ms_since(began: float) -> int:
    return int((time.monotonic() - began) * 1000)


def _title(key: str) -> str:
    return f"The runtime environment {short_name(key)}"


async def in_thread(function: Callable[..., Any], *arguments: Any) -> Any:
    """What a function that blocks returns or raises. The thread is its own: the node's end does not wait for it, and
    ends installers with all other descendants."""
    loop = asyncio.get_running_loop()
    done: asyncio.Future[Any] = loop.create_future()

    def settle(result: Any, failure: Exception | None) -> None:
        if done.done():
            return
        if failure is None:
            done.set_result(result)
        else:
            done.set_exception(failure)

    def work() -> None:
        result, failure = None, None
        try:
            result = function(*arguments)
        except Exception as error:  # noqa: BLE001 - it is raised where the result is awaited.
            failure = error
        with suppress(RuntimeError):
            loop.call_soon_threadsafe(settle, result, failure)

    threading.Thread(target=work, name="raybook-environment", daemon=True).start()
    return await done
