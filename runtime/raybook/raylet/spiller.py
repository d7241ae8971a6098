"""Spiller: moves objects of this node's arena to disk. Message → event → SpillPolicy → effects; files in threads.

An owner chooses and lets go (`core/owner/relocations`); here the bytes are written and files are deleted. The folder is
the session's, and goes with it.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable, Iterable
from typing import Any

from raybook.base.config import Config
from raybook.core.node import spill_policy as sp
from raybook.core.node.object_table import Pressure
from raybook.io import spill_files
from raybook.io.shm_arena import Arena
from raybook.protocol.messages.store import (
    DeleteSpilled,
    ObjectsSpilled,
    SpillDone,
    SpilledItem,
    SpillItem,
    SpillObjects,
    SpillWanted,
)

logger = logging.getLogger(__name__)

FOLDER = "spill"


class Spiller:
    """One per store. pressure: how full it is. gave_up(query, trouble): nothing more can go to disk for a request."""

    def __init__(
        self,
        config: Config,
        capacity_bytes: int,
        arena: Arena,
        session_dir: str,
        node_id: bytes,
        send: Callable[[bytes, Any], None],
        pressure: Callable[[], Pressure],
        gave_up: Callable[[int, str], None],
    ) -> None:
        self.folder = f"{session_dir}/{FOLDER}"
        self._disk_share_max = config.spill_disk_share_max
        self._policy = sp.SpillPolicy(capacity_bytes, config.spill_threshold, config.spill_batch_bytes)
        self._arena = arena
        self._node_id = node_id
        self._send = send
        self._pressure = pressure
        self._gave_up = gave_up
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        self._closed = False
        self._target_bytes: int | None = None

    @property
    def threshold_bytes(self) -> int:
        return self._policy.threshold_bytes

    @property
    def is_active(self) -> bool:
        """Whether a round is under way, which wants to hear of every change."""
        return self._policy.is_active or self._target_bytes is not None

    def look(self) -> None:
        """The store's level has changed, or a request waits."""
        self._decide()

    def relieve(self, to_free_bytes: int) -> None:
        """Write so many bytes of objects to disk, because the node's memory is short; 0: it is not any more."""
        self._target_bytes = max(0, self._pressure().used_bytes - to_free_bytes) if to_free_bytes else None
        self._decide()

    def received(self, client_id: bytes, message: Any) -> None:
        """What an owner says of spilling."""
        if isinstance(message, SpillObjects):
            self._decide(sp.Chosen(client_id, message.query_id, message.items))
        elif isinstance(message, SpillDone):
            self._decide(sp.LetGo(client_id, message.query_id, message.freed_bytes))
        else:
            assert isinstance(message, DeleteSpilled), f"{type(message).__name__} is no message about spilling."
            self._delete([path for path in message.paths if os.path.dirname(path) == self.folder])
            ranges = [dead for dead in message.ranges if os.path.dirname(dead[0]) == self.folder]
            if ranges and not self._closed:
                self._loop.run_in_executor(None, _clear, ranges)

    def client_died(self, client_id: bytes) -> None:
        """Its files are of no more use: nobody knows what is in them."""
        self._decide(sp.OwnerDied(client_id))
        self._delete(spill_files.files_of(self.folder, client_id))

    def close(self) -> None:
        """No more rounds. A write under way ends by itself, in a folder that is removed."""
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()

    def _decide(self, *events: sp.Event) -> None:
        if self._closed:
            return
        now = self._pressure()
        level = sp.Level(
            now.used_bytes, now.wanted_bytes, now.request, now.owners, now.returned_bytes, self._target_bytes
        )
        now_ms = int(self._loop.time() * 1000)
        self._execute(self._policy.handle([level, *events], now_ms))
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        deadline_ms = self._policy.next_deadline_ms()
        if deadline_ms is not None:
            self._timer = self._loop.call_at((deadline_ms + 1) / 1000, self._decide)

    def _execute(self, effects: Iterable[sp.Effect]) -> None:
        for effect in effects:
            if isinstance(effect, sp.AskOwner):
                self._send(effect.client_id, SpillWanted(effect.query_id, effect.bytes_wanted, self._node_id))
            elif isinstance(effect, sp.WriteFile):
                done = self._loop.run_in_executor(None, self._write, effect)
                done.add_done_callback(self._written)
            elif isinstance(effect, sp.TellOwner):
                self._send(effect.client_id, ObjectsSpilled(effect.query_id, effect.path, effect.items))
            elif isinstance(effect, sp.DropFile):
                self._delete([effect.path])
            else:
                assert isinstance(effect, sp.GiveUp)
                # Later: the store may be in the middle of its own decision.
                self._loop.call_soon(self._gave_up, effect.request, effect.trouble)

    def _write(self, effect: sp.WriteFile) -> sp.Written:
        """In a thread. The owner keeps the regions until it has heard of the file; a region whose object died meanwhile
        may hold anything, and is not read by anybody."""
        path = spill_files.file_path(self.folder, effect.client_id, str(effect.query_id))
        views = [[self._arena.view(item.offset, item.size)] for item in effect.items]
        try:
            placed = spill_files.write_objects(path, views, self._disk_share_max)
        except OSError as error:
            return sp.Written(effect.query_id, "", [], error.strerror or str(error))
        return sp.Written(effect.query_id, path, _placed(effect.items, placed))

    def _written(self, done: asyncio.Future[sp.Written]) -> None:
        if self._closed or done.cancelled():
            return
        written = done.result()
        if written.trouble:
            logger.error("Objects cannot be moved to disk: %s.", written.trouble)
        self._decide(written)

    def _delete(self, paths: list[str]) -> None:
        # In a thread: the file system takes its time with large files.
        if paths and not self._closed:
            self._loop.run_in_executor(None, spill_files.delete, paths)


def _clear(ranges: list[tuple[str, int, int]]) -> None:
    for path, offset, size in ranges:
        spill_files.clear(path, offset, size)


def _placed(items: list[SpillItem], placed: list[tuple[int, int]]) -> list[SpilledItem]:
    pairs = zip(items, placed, strict=True)
    return [SpilledItem(item.object_id, offset, checksum) for item, (offset, checksum) in pairs]
