"""Memory guard: looks four times a second how full this node's memory is, and does what the policy says about it.

Reading → ``core/node/memory_policy`` → effects. Files are read on a thread of its own, so that neither the loop nor the
writing of objects to disk delays a look. While there is memory enough, a look is one or two small files; only when
there is not are processes looked at, one by one.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from raybook.base.config import Config
from raybook.core.node import memory_policy as mp
from raybook.core.node import worker_pool as wp
from raybook.core.node.lease_reports import Occupant
from raybook.io.memory import MemoryUse, NodeMemory, family_bytes
from raybook.raylet.clients import DRIVER, ClientTable
from raybook.raylet.effects import NodeDecider
from raybook.raylet.shortage import User, why_ended, why_nobody
from raybook.raylet.store_service import StoreService

logger = logging.getLogger(__name__)

OUT_OF_MEMORY = "OutOfMemoryError"
OWN_LIMIT = "what this cluster may use (memory_limit_bytes)"


class MemoryGuard:
    """One per raylet. say: what people should read."""

    def __init__(
        self,
        config: Config,
        decider: NodeDecider,
        clients: ClientTable,
        store: StoreService,
        say: Callable[[str], None],
        node_memory: NodeMemory | None = None,
    ) -> None:
        self._threshold = config.memory_usage_threshold
        self._period_s = config.memory_monitor_refresh_ms / 1000
        self._limit_bytes = config.memory_limit_bytes
        self._decider = decider
        self._clients = clients
        self._store = store
        self._say = say
        self._memory = node_memory or NodeMemory()
        self._policy = mp.MemoryPolicy(self._threshold)
        self._thread = ThreadPoolExecutor(1, "memory-guard")
        self._loop = asyncio.get_running_loop()
        self._watch: asyncio.Task[None] | None = None
        self._has_failed = False

    def start(self) -> None:
        """Begin to look, unless the configuration says never."""
        if self._period_s > 0:
            self._watch = self._loop.create_task(self._look_for_ever())

    def worker_ended(self, client_id: bytes) -> None:
        """The process of a worker is gone."""
        self._execute(self._policy.handle([mp.WorkerEnded(client_id)], self._now_ms()), None, [])

    def close(self) -> None:
        """Look no more. Idempotent."""
        if self._watch is not None:
            self._watch.cancel()
        self._thread.shutdown(wait=False, cancel_futures=True)

    def _now_ms(self) -> int:
        return int(self._loop.time() * 1000)

    async def _look_for_ever(self) -> None:
        while True:
            await asyncio.sleep(self._period_s)
            try:
                await self._look()
            except (OSError, KeyError, ValueError):
                # A node without a guard is better than none; the next look may succeed.
                if not self._has_failed:
                    self._has_failed = True
                    logger.exception("The memory of this node could not be read; said once, tried on.")

    async def _look(self) -> None:
        use = await self._in_thread(self._read, self._pids() if self._limit_bytes else [])
        if self._policy.is_calm and not self._policy.is_short(use.used_bytes, use.limit_bytes):
            return
        sizes = await self._in_thread(family_bytes, self._pids())
        occupants = {occupant.worker: occupant for occupant in self._decider.leases.reports.occupants()}
        candidates = []
        for worker, occupant in occupants.items():
            process = self._clients.process(worker)
            if process is not None and process.client is not None and not process.kill_reason:
                private = sizes.get(process.pid, 0)
                candidates.append(
                    mp.Candidate(worker, occupant.owner, occupant.since_ms, private, occupant.is_retriable)
                )
        reading = mp.Reading(use.used_bytes, use.limit_bytes, self._store.resident_bytes(), candidates)
        effects = self._policy.handle([reading], self._now_ms())
        if effects:
            self._execute(effects, use, self._users(sizes, occupants))

    async def _in_thread(self, function: Callable[..., Any], *arguments: Any) -> Any:
        return await self._loop.run_in_executor(self._thread, function, *arguments)

    def _read(self, pids: list[int]) -> MemoryUse:
        use = self._memory.read()
        if self._limit_bytes:
            used = sum(family_bytes(pids).values()) + self._store.resident_bytes()
            own = MemoryUse(used, self._limit_bytes, OWN_LIMIT)
            use = max(use, own, key=lambda one: one.share)
        return use

    def _pids(self) -> list[int]:
        """Of every process of this node that raybook knows: this one, drivers and workers."""
        drivers = [client.pid for client in self._clients if client.kind == DRIVER]
        return [os.getpid(), *drivers, *(process.pid for process in self._clients.processes() if process.pid)]

    def _users(self, sizes: dict[int, int], occupants: dict[bytes, Occupant]) -> list[User]:
        names = {client.pid: "a driver" for client in self._clients if client.kind == DRIVER}
        for process in self._clients.processes():
            occupant = occupants.get(process.client_id)
            names[process.pid] = occupant.name or "an idle worker" if occupant is not None else "a worker"
        names[os.getpid()] = "the raylet"
        users = [User(names.get(pid, ""), size, pid) for pid, size in sizes.items()]
        return [*users, User("the object store", self._store.resident_bytes())]

    # Carrying out

    def _execute(self, effects: list[mp.Effect], use: MemoryUse | None, users: list[User]) -> None:
        for effect in effects:
            if isinstance(effect, mp.ShrinkStore):
                self._store.shrink(effect.to_free_bytes)
            elif isinstance(effect, mp.EndIdle):
                self._decider.workers(wp.WorkerUnwanted(effect.worker))
            elif isinstance(effect, mp.EndWorker):
                assert use is not None, "Nobody is ended without a reading."
                self._end(effect, use, users)
            else:
                assert isinstance(effect, mp.NobodyToEnd) and use is not None
                text = why_nobody(use, self._threshold, users)
                logger.warning("%s", text)
                self._say(text)

    def _end(self, effect: mp.EndWorker, use: MemoryUse, users: list[User]) -> None:
        process = self._clients.process(effect.worker)
        if process is None:
            return
        reason = why_ended(process.pid, use, self._threshold, users, effect.has_company)
        self._decider.kill(process, reason, "" if effect.has_company else OUT_OF_MEMORY)
