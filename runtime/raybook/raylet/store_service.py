"""Store service: the arena of this node, and the messages about it. Message → event → ObjectTable → effects."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable
from typing import Any

import msgspec

from raybook.base.config import Config
from raybook.core.node import store_events as ev
from raybook.core.node.object_records import Pressure
from raybook.core.node.object_table import ObjectTable
from raybook.core.node.translation import STORE_EVENTS, STORE_MESSAGES
from raybook.io.shm_arena import Arena, create_arena
from raybook.protocol.messages.store import DeleteSpilled, ExtentRefused, SpillDone, SpillObjects
from raybook.raylet.spiller import Spiller

logger = logging.getLogger(__name__)

ARENA_BYTES_MIN = 1 << 30
PAGE_BYTES = 4096
SPILL_MESSAGES = (SpillObjects, SpillDone, DeleteSpilled)


class StoreService:
    """send: delivers a message to a client, if it is connected. misbehaved: ends a client whose books cannot be
    trusted. session_dir: has the folder of objects on disk."""

    def __init__(
        self,
        config: Config,
        budget_bytes: int,
        session_dir: str,
        node_id: bytes,
        send: Callable[[bytes, Any], None],
        misbehaved: Callable[[bytes, str], None],
    ) -> None:
        self.capacity_bytes = budget_bytes // PAGE_BYTES * PAGE_BYTES
        self.arena_bytes = max(ARENA_BYTES_MIN, self.capacity_bytes * config.arena_overcommit)
        self._arena = Arena(create_arena(self.arena_bytes))
        self._send = lambda client_id, message: (
            self.to_self(message) if client_id == node_id else send(client_id, message)
        )
        self._misbehaved = misbehaved
        self._node_id = node_id
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        self._changed = True
        self._closed = False
        self.to_self: Callable[[Any], None] = lambda message: None
        """Takes what the store says to this node as one of its clients."""
        self.about_cluster: Callable[[], str] = lambda: ""
        """What to add for a client that finds no room here: a sentence about the other nodes' stores."""
        self._spiller: Spiller | None = None
        spill_bytes = None
        if config.spilling:
            self._spiller = Spiller(
                config,
                self.capacity_bytes,
                self._arena,
                session_dir,
                node_id,
                self._send,
                self._pressure,
                lambda query_id, trouble: self._decide(ev.SpillingEnded(query_id, trouble)),
            )
            spill_bytes = self._spiller.threshold_bytes
        self._table = ObjectTable(self.arena_bytes, self.capacity_bytes, spill_bytes=spill_bytes)
        self._keep_warm_bytes = self._table.keep_warm_bytes

    @property
    def arena(self) -> Arena:
        return self._arena

    @property
    def spill_folder(self) -> str:
        """Where objects of this node lie on disk; "" when none do."""
        return "" if self._spiller is None else self._spiller.folder

    @property
    def fd(self) -> int:
        """The arena's descriptor, to pass to clients."""
        return self._arena.fd

    def received(self, client_id: bytes, message: Any) -> None:
        """One of the messages of protocol/messages/store from a client."""
        if isinstance(message, SPILL_MESSAGES):
            if self._spiller is not None:
                self._spiller.received(client_id, message)
            return
        self._decide(STORE_EVENTS[type(message)](client_id, message))

    def client_joined(self, client_id: bytes, name: str) -> None:
        self._decide(ev.ClientJoined(client_id, name))

    def client_died(self, client_id: bytes) -> None:
        """Its last message has been read."""
        self._decide(ev.ClientDied(client_id))
        if self._spiller is not None:
            self._spiller.client_died(client_id)

    def owner_died(self, owner_id: bytes) -> None:
        """An owner on another node is gone; what it had here is garbage."""
        self._decide(ev.OwnerDied(owner_id))
        if self._spiller is not None:
            self._spiller.client_died(owner_id)

    def take_changed(self) -> dict[str, int] | None:
        """The "store" fact's row, if it may have changed since the last call."""
        if not self._changed:
            return None
        self._changed = False
        numbers = self._table.statistics()
        return {
            "used_bytes": numbers.used_bytes,
            "capacity_bytes": numbers.capacity_bytes,
            "objects": numbers.sealed_count,
        }

    def _pressure(self) -> Pressure:
        """As the table sees it, but this node itself is asked first: its copies of other nodes' objects need no disk."""
        found = self._table.pressure()
        if self._node_id not in found.owners:
            return found
        others = [owner for owner in found.owners if owner != self._node_id]
        return msgspec.structs.replace(found, owners=[self._node_id, *others])

    def used_bytes(self) -> int:
        return self._table.statistics().used_bytes

    def owners(self) -> list[bytes]:
        """Living processes, here or elsewhere, that have bytes in this arena. Cost: O(clients + objects)."""
        return self._table.pressure().owners

    def resident_bytes(self) -> int:
        """Memory that the arena takes just now, idle room included. Cost: 1 µs."""
        return self._arena.memory_bytes()

    def shrink(self, to_free_bytes: int) -> None:
        """Give so much memory back to the machine: idle room at once, objects to disk. 0: live as before."""
        if self._closed:
            return
        self._table.keep_warm_bytes = 0 if to_free_bytes else self._keep_warm_bytes
        if self._spiller is not None:
            self._spiller.relieve(to_free_bytes)
        self._decide()

    def close(self) -> None:
        """Let go of the arena; its memory ends with the last process that maps it."""
        self._closed = True
        if self._spiller is not None:
            self._spiller.close()
        if self._timer is not None:
            self._timer.cancel()
        self._arena.close()

    def _decide(self, *events: Any) -> None:
        if self._closed:
            return
        self._changed = True
        self._execute(self._table.handle(events, self._now_ms()))
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        deadline_ms = self._table.next_deadline_ms()
        if deadline_ms is not None:
            self._timer = self._loop.call_at((deadline_ms + 1) / 1000, self._decide)
        if self._spiller is not None and (self._table.is_pressed() or self._spiller.is_active):
            self._spiller.look()

    def _now_ms(self) -> int:
        return int(self._loop.time() * 1000)

    def _execute(self, effects: Iterable[Any]) -> None:
        for effect in effects:
            make = STORE_MESSAGES.get(type(effect))
            if make is not None:
                self._send(effect.client_id, make(effect))
            elif isinstance(effect, ev.RefuseExtent):
                spill_dir = "" if self._spiller is None else self._spiller.folder
                reason = effect.reason + self.about_cluster()
                self._send(effect.client_id, ExtentRefused(effect.request_id, reason, spill_dir))
            elif isinstance(effect, ev.PunchHole):
                self._punch(effect)
            elif isinstance(effect, ev.ClientMisbehaved):
                self._loop.call_soon(self._misbehaved, effect.client_id, effect.text)
            else:
                assert isinstance(effect, ev.SealRejected), f"Nobody carries out a {type(effect).__name__}."
                logger.warning("Object %s is lost: %s", effect.object_id.hex(), effect.reason)

    def _punch(self, hole: ev.PunchHole) -> None:
        # In a thread: 4 ms for 64 MiB, and the loop serves everybody.
        done = self._loop.run_in_executor(None, self._arena.punch, hole.offset, hole.size)
        done.add_done_callback(lambda future: self._punched(hole, future))

    def _punched(self, hole: ev.PunchHole, done: asyncio.Future[None]) -> None:
        if self._closed:
            return
        error = done.exception()
        if error is not None:
            logger.error("Giving %d bytes of the arena back to the machine failed: %s", hole.size, error)
        self._decide(ev.HolePunched(hole.offset))
