"""Ledger: what the GCS must write down, in order, and what it owes a store that takes nothing for now.

A step of the GCS counts when its rows are written; only then is it acted upon and answered. When the store fails (a full
disk, a Redis that stays away), the cluster goes on from memory, because its nodes have to stay in step with the tables:
rows are owed, the latest of each key, and tried again every ``RETRY_S``. Meanwhile whoever asks for something that must be
remembered is refused (``must_write``), so nothing is promised that a restart would forget.

Invariant: a row that was acknowledged is in the store, or a later one of the same key is owed.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from typing import Any

from raybook.io.channel import RemoteError
from raybook.io.storage import Storage, StoreLost, StoreTaken, Write

logger = logging.getLogger(__name__)

RETRY_S = 1.0
MEANWHILE = "What runs goes on; new names, actors, groups and keys are refused until the store takes them again."


class Ledger:
    """act: carries out a step's effects. everything: all rows, for a store that has lost them. taken: another GCS has the
    store, and this one must neither write nor act any more."""

    def __init__(
        self,
        storage: Storage,
        act: Callable[[Sequence[Any]], None],
        everything: Callable[[], list[Write]],
        taken: Callable[[str], None],
    ) -> None:
        self._storage = storage
        self._act = act
        self._everything = everything
        self._taken = taken
        self.is_volatile = storage.is_volatile
        self.trouble = ""
        """Why the store takes nothing; "" while it does."""
        self._backlog: list[tuple[Sequence[Write], Sequence[Any], asyncio.Future[None]]] = []
        self._owed: dict[tuple[str, bytes], Write] = {}
        self._saver: asyncio.Task[None] | None = None
        self._debtor: asyncio.Task[None] | None = None
        self._is_over = False

    async def run(self, writes: Sequence[Write], effects: Sequence[Any]) -> None:
        """Write, then act. Returns when both have happened, or when the rows are owed and the effects have happened."""
        if self.is_volatile:
            self._act(effects)
            return
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._backlog.append((writes, effects, done))
        if self._saver is None or self._saver.done():
            self._saver = asyncio.get_running_loop().create_task(self._save())
        await asyncio.shield(done)

    def must_write(self) -> None:
        """For requests that make a promise: RemoteError while the store takes nothing."""
        if self.trouble:
            raise RemoteError("RaySystemError", self.trouble)

    async def look(self) -> None:
        """Something is wrong with the store, as it says itself: find out by writing nothing."""
        await self.run((), ())

    async def close(self) -> None:
        """Finish writing; what is owed gets a last try."""
        if self._saver is not None and not self._saver.done():
            await asyncio.wait([self._saver])
        if self._debtor is not None and not self._debtor.done():
            self._debtor.cancel()
            await asyncio.wait([self._debtor])
        if self._owed and not self._is_over:
            await self._pay_once()

    async def _save(self) -> None:
        while self._backlog and not self._is_over:
            batch, self._backlog = self._backlog, []
            writes = [write for writes, _, _ in batch for write in writes]
            if self.trouble:
                self._owe(writes)
            else:
                await self._write(writes)
            if self._is_over:
                return  # Whoever waits is answered by the GCS that has the store now.
            for _, effects, done in batch:
                self._act(effects)
                if not done.cancelled():
                    done.set_result(None)

    async def _write(self, writes: list[Write]) -> None:
        """Into the store, or what we owe."""
        try:
            try:
                await self._storage.write(writes)
            except StoreLost as error:
                logger.error("%s Everything is written anew.", error)
                writes = self._everything()
                await self._storage.write(writes)
        except StoreTaken as error:
            self._is_over = True
            self._taken(str(error))
        except OSError as error:
            if not self.trouble:
                logger.error("The GCS goes on from memory: %s", error)
            self.trouble = f"{error} {MEANWHILE}"
            self._owe(writes)
            if self._debtor is None or self._debtor.done():
                self._debtor = asyncio.get_running_loop().create_task(self._pay())

    def _owe(self, writes: Sequence[Write]) -> None:
        for write in writes:
            self._owed[write.table, write.key] = write

    async def _pay(self) -> None:
        while self.trouble and not self._is_over:
            await asyncio.sleep(RETRY_S)
            await self._pay_once()

    async def _pay_once(self) -> None:
        owed, self._owed = self._owed, {}
        try:
            await self._storage.write(list(owed.values()))
        except StoreTaken as error:
            self._is_over = True
            self._taken(str(error))
        except StoreLost:
            self._owe(self._everything())
        except OSError as error:
            self.trouble = f"{error} {MEANWHILE}"
            newer, self._owed = self._owed, owed
            self._owe(list(newer.values()))
        else:
            if not self._owed:
                logger.warning("The store takes rows again; %d that were owed are written.", len(owed))
                self.trouble = ""
