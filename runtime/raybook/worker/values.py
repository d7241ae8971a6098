"""Values: between Python objects and what the owner machine keeps (inline bytes, locations, errors).

Runs on user threads. Writing a large value takes a region of the arena; reading one maps it without a copy and holds it
by a pin for as long as any view lives.
"""

from __future__ import annotations

import _thread
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from raybook.base.errors import GetTimeoutError, LocalRayletDiedError, ObjectStoreFullError, error_from_value
from raybook.base.specs import Location, RefInfo, Value
from raybook.core.owner.records import CancelWait, HoldRef, Pin, Unpin, Wait
from raybook.io.shm_arena import pinned_buffer
from raybook.protocol.serialization import SerializationContext, Serialized, deserialize, serialize
from raybook.worker.core_process import CoreProcess


def _nothing() -> None:
    pass


class Values:
    """Reads and writes values for one core process."""

    def __init__(self, core: CoreProcess, context: SerializationContext) -> None:
        self._core = core
        self.context = context
        self._inline_bytes_max = core.config.inline_bytes_max
        self._ready = core.owner.objects.values
        self.before_block: Callable[[], None] = _nothing
        self.after_block: Callable[[], None] = _nothing

    # Writing

    def pack(self, value: Any, name: str = "value") -> tuple[Value, bool]:
        """A value ready to be stored; True with it when it lies in a region of ours.
        TypeError naming the path of what cannot be pickled; ObjectStoreFullError."""
        return self.store(serialize(value, self.context, name))

    def store(self, serialized: Serialized) -> tuple[Value, bool]:
        """As ``pack``, for something serialized already."""
        contained = list(serialized.contained) or None
        if serialized.total_bytes <= self._inline_bytes_max:
            return Value(serialized.to_bytes(), None, None, contained), False
        return Value(None, self._write(serialized), None, contained), True

    def _write(self, serialized: Serialized) -> Location:
        core = self._core
        ticket = core.allocate(serialized.total_bytes)
        if ticket.offset < 0:
            if core.lost_reason:
                raise LocalRayletDiedError(core.lost_reason)
            raise ObjectStoreFullError(ticket.refusal)
        core.arena.write(ticket.offset, serialized.parts(), warm=ticket.warm)
        return Location(core.me.node_id, ticket.offset, serialized.total_bytes)

    # Reading

    def unpack(self, key: bytes, value: Value, owner_address: str) -> Any:
        """The Python object; raises the error of a failed one. Views into the arena hold the object."""
        inline = value.inline
        if inline is not None:
            return deserialize(inline)
        location = value.location
        if location is None:
            assert value.error is not None, "a value is neither inline, nor located, nor an error"
            raise error_from_value(value.error, deserialize)
        view = self._core.arena.view(location.offset, location.size)
        return deserialize(view, wrap_buffer=partial(self._pin, RefInfo(key, owner_address), location.offset))

    def _pin(self, ref: RefInfo, offset: int, view: memoryview) -> memoryview:
        queue = self._core.queue
        queue.append(Pin(ref, offset))
        return pinned_buffer(view, partial(queue.append, Unpin(ref.object_id)))

    def get(self, refs: Sequence[Any], timeout_s: float | None) -> list[Any]:
        """The objects of several refs in order; blocks until all are there or one has failed."""
        ready = self._ready
        keys = [ref.id for ref in refs]
        if any(key not in ready for key in keys):
            self._wait_for_all(keys, timeout_s)
        values = []
        failed = None
        for key in keys:
            value = ready.get(key)
            if value is None:
                if failed is None:
                    failed = self._find_error(keys)
                raise failed
            values.append(value)
        return [self.unpack(ref.id, value, ref.owner_address) for ref, value in zip(refs, values, strict=True)]

    def _find_error(self, keys: Sequence[bytes]) -> BaseException:
        for key in keys:
            value = self._ready.get(key)
            if value is not None and value.error is not None:
                return error_from_value(value.error, deserialize)
        return LocalRayletDiedError(self._core.lost_reason or "The object is not ready, and nothing will make it so.")

    def _wait_for_all(self, keys: list[bytes], timeout_s: float | None) -> None:
        if not self.block(Wait(list(dict.fromkeys(keys)), len(set(keys)), True, None), timeout_s):
            waiting = [key for key in keys if key not in self._ready]
            raise GetTimeoutError(
                f"Get timed out: {len(waiting)} of {len(keys)} objects were not ready after {timeout_s:g} s. "
                f"The first of them, {waiting[0].hex() if waiting else keys[0].hex()}: "
                f"{self._core.owner.explain(waiting[0]) if waiting else 'it became ready just now'}. "
                f"The tasks go on; call get again, or cancel them."
            )

    def block(self, wait: Wait, timeout_s: float | None) -> bool:
        """Wait until the owner machine releases it. False on time-out. An interrupt withdraws the wait."""
        lock = _thread.allocate_lock()
        lock.acquire()
        wait.lock = lock
        core = self._core
        if core.lost_reason:
            raise LocalRayletDiedError(core.lost_reason)
        core.submit(wait)
        if timeout_s is not None and timeout_s <= 0:
            # What was submitted before this call must have been looked at once.
            timeout_s = 0.005
        if lock.acquire(False):
            return True
        self.before_block()
        try:
            done = lock.acquire() if timeout_s is None else lock.acquire(True, min(timeout_s, 4_000_000.0))
        except BaseException:
            core.submit(CancelWait(wait))
            raise
        finally:
            self.after_block()
        if not done:
            core.submit(CancelWait(wait))
        if core.lost_reason and not wait.done:
            raise LocalRayletDiedError(core.lost_reason)
        return done

    def wait(self, refs: Sequence[Any], num_returns: int, timeout_s: float | None) -> tuple[list[Any], list[Any]]:
        """(ready, not ready), both in input order; ``ready`` has at most ``num_returns``."""
        ready = self._ready
        keys = [ref.id for ref in refs]
        if sum(key in ready for key in keys) < num_returns and (timeout_s is None or timeout_s > 0 or self._core.queue):
            self.block(Wait(keys, num_returns, False, None), timeout_s)
        done: list[Any] = []
        rest: list[Any] = []
        for ref in refs:
            if len(done) < num_returns and ref.id in ready:
                done.append(ref)
            else:
                rest.append(ref)
        return done, rest



    def fetch(self, ref: RefInfo) -> Value:
        """The value record of an object that may be somebody else's; blocks until its owner tells."""
        key = ref.object_id
        value = self._ready.get(key)
        if value is None:
            self._core.submit(HoldRef(ref))
            try:
                self.block(Wait([key], 1, False, None), None)
                value = self._ready[key]
            finally:
                self._core.queue.append(key)
        return value
