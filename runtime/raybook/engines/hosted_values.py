"""Hosted values: a session process reads and stores values as the bytes they are; nothing of a user's is unpickled here.

Runs on threads of the host's, which may wait: for room in the arena, for a copy from another node, for parts that are
still on their way.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from raybook.base.error_values import error_from_code
from raybook.base.specs import Location, RefInfo, Value
from raybook.core.owner.records import HoldRef, Wait
from raybook.core.owner.regions import Ticket
from raybook.protocol.serialization import SerializationContext, Serialized
from raybook.worker.core_process import CoreProcess
from raybook.worker.values import Values


class HostedValues(Values):
    """One for each session process."""

    def __init__(self, core: CoreProcess) -> None:
        super().__init__(core, SerializationContext({}))
        self.decode = _as_bytes

    def read(self, ref: RefInfo) -> memoryview:
        """The bytes of an object, which is held as long as any view of them lives. Blocks until it is there. Raises the
        error of one that cannot be had, as ``Values.unpack`` does; ValueError for one that failed."""
        key = ref.object_id
        self._core.submit(HoldRef(ref))
        try:
            value = self._ready.get(key)
            if value is None:
                self.block(Wait([key], 1, False, None), None)
                value = self._ready[key]
            if value.inline is not None:
                return memoryview(value.inline)
            if value.error is not None:
                raise error_from_code(value.error.code, value.error.text)
            data: memoryview = self.unpack(key, value, ref.owner_address)
            return data
        finally:
            self._core.queue.append(key)

    def receive(
        self, size: int, contained: list[RefInfo] | None, parts: Iterable[bytes]
    ) -> tuple[Value, Ticket | None]:
        """Store what comes in parts, ``size`` bytes together. ObjectStoreFullError, OutOfDiskError; whatever ``parts``
        raises, and then nothing is left of it."""
        core = self._core
        ticket = core.tickets.allocate(size)
        if ticket.offset < 0:
            if core.lost_reason:
                raise core.lost_error()
            if not ticket.spill_dir:
                raise error_from_code("ObjectStoreFullError", ticket.refusal)
            pieces = list(parts)
            serialized = Serialized(pieces, (), (), 0, size, size)
            return Value(None, self._write_to_disk(serialized, core.client_id, ticket), None, contained), None
        try:
            position = ticket.offset
            for part in parts:
                core.arena.write(position, [part], warm=ticket.warm)
                position += len(part)
            return Value(None, Location(core.me.node_id, ticket.offset, size), None, contained), ticket
        except BaseException:
            core.tickets.abandon(ticket)
            raise


def _as_bytes(view: Any, *, wrap_buffer: Callable[[memoryview], memoryview] | None = None) -> memoryview:
    whole = memoryview(view)
    return whole if wrap_buffer is None else wrap_buffer(whole)
