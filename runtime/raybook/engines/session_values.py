"""Values of a thin client: small ones come with the news that they are ready, large ones in parts when they are read.

As ``worker/values``, but for what touches an arena: here there is none. A large value that was brought stays in the mirror
while there is room, so that reading it twice costs one transfer; its arrays are read-only views of that one copy.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from raybook.base.error_values import error_from_code, error_from_value
from raybook.base.specs import Location, RefInfo, Value
from raybook.core.owner.records import CancelWait, Wait
from raybook.engines.session_core import SessionCore
from raybook.engines.session_mirror import MIRROR_BYTES_MAX
from raybook.engines.session_orders import Order
from raybook.protocol.messages.session import SYNC, SeenError, placed
from raybook.protocol.serialization import SerializationContext, Serialized, deserialize
from raybook.worker.leading import shut_lock
from raybook.worker.values import Values

READS_MAX = 20
"""A value that moves, or is made again, while it is read is read again."""


class SessionValues(Values):
    """One for each engine."""

    def __init__(self, core: SessionCore, context: SerializationContext) -> None:
        super().__init__(core, context)  # type: ignore[arg-type]
        self._session = core

    def _write(self, serialized: Serialized, owner_id: bytes) -> tuple[Location, Any]:
        ticket = self._session.transfers.upload(serialized)
        if ticket.error_code:
            raise error_from_code(ticket.error_code, ticket.error_text)
        return placed(ticket.number, serialized.total_bytes), ticket

    def unpack(self, key: bytes, value: Value, owner_address: str, end_s: float | None = None) -> Any:
        for _ in range(READS_MAX):
            if value.inline is not None:
                return deserialize(value.inline)
            if value.error is not None:
                if not value.error.seen:
                    value.error.seen = True
                    self._session.submit(Order(SeenError(key)))
                raise error_from_value(value.error, deserialize)
            assert value.location is not None, "a value is neither inline, nor an error, nor to be had"
            value = self._bring(RefInfo(key, owner_address), value.location.size)
        raise error_from_code(
            "ObjectLostError", f"The object {key.hex()} could not be read: it moves, or is lost, always."
        )

    def _begin_copies(self, refs: Iterable[Any]) -> None:
        """Copies are the session's."""

    def _bring(self, ref: RefInfo, size: int) -> Value:
        core = self._session
        ticket = core.transfers.download(ref)
        if ticket.error_code:
            raise error_from_code(ticket.error_code, ticket.error_text)
        value = Value(memoryview(ticket.data).toreadonly())  # type: ignore[arg-type]
        if size <= MIRROR_BYTES_MAX // 2:
            core.submit(lambda: core.owner.objects.values.add(ref.object_id, value))
        return value

    def block(self, wait: Wait, timeout_s: float | None) -> bool:
        if timeout_s is None or timeout_s > 0:
            return super().block(wait, timeout_s)
        # No time to wait: what is ready in the session now counts, however long the way there is.
        core = self._session
        if core.lost_reason:
            raise core.lost_error()
        wait.lock = shut_lock()
        core.submit(wait)
        core.ask(SYNC)
        if not wait.done:
            core.submit(CancelWait(wait))
        return wait.done
