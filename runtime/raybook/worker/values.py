"""Values: between Python objects and what the owner machine keeps (inline bytes, locations, errors).

Runs on user threads. Writing a large value takes a region of the arena; reading one maps it without a copy and holds it
by a pin for as long as any view lives.
"""

from __future__ import annotations

import itertools
import logging
import time
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any

from raybook.base.error_values import error_from_value
from raybook.base.errors import (
    GetTimeoutError,
    NodeDiedError,
    ObjectFetchTimedOutError,
    ObjectLostError,
    ObjectStoreFullError,
    OutOfDiskError,
)
from raybook.base.specs import Location, RefInfo, Value
from raybook.core.owner.records import CancelWait, HoldRef, Pin, Put, SourceLost, Unpin, Wait
from raybook.core.owner.regions import Ticket
from raybook.core.worker.copies import CopyTicket
from raybook.io.shm_arena import pinned_buffer
from raybook.io.spill_files import SpilledValueLost, SpillReader, file_path, write_objects
from raybook.protocol.serialization import SerializationContext, Serialized, deserialize, serialize
from raybook.worker.core_process import CoreProcess

logger = logging.getLogger(__name__)

LOOKS_MAX = 200
"""A get without time to wait asks so often, 5 ms each, whether what was submitted before it has been looked at."""
FETCH_S_MIN = 0.25
"""What is ready on another node is a moment away: a get without time waits so long for the bytes."""


class Values:
    """Reads and writes values for one core process."""

    def __init__(self, core: CoreProcess, context: SerializationContext) -> None:
        self._core = core
        self.context = context
        self._inline_bytes_max = core.config.inline_bytes_max
        self._ready = core.owner.objects.values
        self._spilled = SpillReader()
        self.decode: Callable[..., Any] = deserialize
        """Makes an object of the bytes of a value that lies in the arena or on disk."""
        self._file_numbers = itertools.count()
        self.before_block: Callable[[], None] | None = None
        self.after_block: Callable[[], None] | None = None

    # Writing

    def put(self, key: bytes, serialized: Serialized, origin: str) -> None:
        """Store a value under an id of ours. An interrupt, at whatever line, leaves no room taken by nobody.
        ObjectStoreFullError, OutOfDiskError."""
        value, ticket = self.store(serialized)
        try:
            value.origin = origin
            self._core.queue.append(Put(key, value, ticket is not None, ticket))
        except BaseException:
            if ticket is not None:
                self._core.tickets.abandon(ticket)
            raise

    def pack(self, value: Any, name: str = "value", owner_id: bytes = b"") -> tuple[Value, Ticket | None]:
        """A value ready to be handed over; with it its room, when it lies in a region of ours. owner_id: whose it will
        be, if not ours. TypeError naming the path of what cannot be pickled; ObjectStoreFullError, OutOfDiskError."""
        return self.store(serialize(value, self.context, name), owner_id)

    def store(self, serialized: Serialized, owner_id: bytes = b"") -> tuple[Value, Ticket | None]:
        """As ``pack``, for something serialized already."""
        contained = list(serialized.contained) or None
        if serialized.total_bytes <= self._inline_bytes_max:
            return Value(serialized.to_bytes(), None, None, contained), None
        location, ticket = self._write(serialized, owner_id or self._core.client_id)
        try:
            return Value(None, location, None, contained), None if location.spill_path else ticket
        except BaseException:
            self._core.tickets.abandon(ticket)
            raise

    def _write(self, serialized: Serialized, owner_id: bytes) -> tuple[Location, Ticket]:
        core = self._core
        ticket = core.tickets.allocate(serialized.total_bytes)
        if ticket.offset < 0:
            if core.lost_reason:
                raise core.lost_error()
            if not ticket.spill_dir:
                raise ObjectStoreFullError(ticket.refusal)
            return self._write_to_disk(serialized, owner_id, ticket), ticket
        try:
            core.arena.write(ticket.offset, serialized.parts(), warm=ticket.warm)
            return Location(core.me.node_id, ticket.offset, serialized.total_bytes), ticket
        except BaseException:
            # Most interrupts of a large put come here.
            core.tickets.abandon(ticket)
            raise

    def _write_to_disk(self, serialized: Serialized, owner_id: bytes, ticket: Ticket) -> Location:
        """The store has no room even after spilling (everything in it is looked at, or the value is larger than all of
        it): the value begins its life on disk."""
        core = self._core
        name = f"{core.client_id.hex()}-{next(self._file_numbers)}"
        path = file_path(ticket.spill_dir, owner_id, name)
        try:
            ((offset, checksum),) = write_objects(path, [serialized.parts()], core.config.spill_disk_share_max)
        except OSError as error:
            raise OutOfDiskError(
                f"{ticket.refusal} Writing the value to {ticket.spill_dir} instead failed: {error.strerror or error}. "
                f"No object was lost; free some disk space, or some references, and try again."
            ) from error
        return Location(core.me.node_id, offset, serialized.total_bytes, path, checksum)

    # Reading

    def unpack(self, key: bytes, value: Value, owner_address: str, end_s: float | None = None) -> Any:
        """The Python object; raises the error of a failed one. Views into the arena hold the object. end_s (monotonic):
        when to stop waiting for a copy from another node, with GetTimeoutError."""
        inline = value.inline
        if inline is not None:
            return deserialize(inline)
        location = value.location
        if location is None:
            assert value.error is not None, "a value is neither inline, nor located, nor an error"
            value.error.seen = True
            raise error_from_value(value.error, deserialize)
        here = self._core.me.node_id
        while not location.spill_path or location.node_id != here:
            # First pinned, then looked at: the place may be left between the two, and then the value says so.
            append = self._core.queue.append
            unpin = Unpin(key, location.offset, is_due=False)
            pin = Pin(RefInfo(key, owner_address), location.offset, unpin)
            try:
                append(pin)
                if value.location is location:
                    if location.node_id != here:
                        return self._read_copy(key, location, owner_address, end_s)
                    return self._read_from_arena(location, unpin)
            finally:
                # Also after an interrupt at any line: an end without its beginning, and a second end, count for nothing.
                if not unpin.is_kept:
                    append(unpin)
            location = value.location
            assert location is not None, "a located value has lost its location"
        return self._read_from_disk(RefInfo(key, owner_address), value, location)

    def _read_from_arena(self, location: Location, unpin: Unpin) -> Any:
        view = self._core.arena.view(location.offset, location.size)
        return self.decode(view, wrap_buffer=partial(_keep, self._core.queue.append, unpin))

    def _read_copy(self, key: bytes, location: Location, owner_address: str, end_s: float | None) -> Any:
        """The object lies on another node: read a copy, which is made if there is none yet. Our caller's pin keeps the
        object where it is until then."""
        core = self._core
        copies = core.owner.objects.copies
        while True:
            copy = copies.get(key)
            if copy is None:
                timeout_s = None if end_s is None else max(FETCH_S_MIN, end_s - time.monotonic())
                ticket = core.tickets.fetch_copy(key, location, timeout_s)
                copy = ticket.copy
                if copy is None:
                    return self._read_without_copy(RefInfo(key, owner_address), ticket, end_s)
            # First pinned, then looked at: the raylet may ask for the copy back between the two.
            unpin = Unpin(key, copy.offset, is_due=False)
            pin = Pin(RefInfo(key, owner_address), copy.offset, unpin)
            try:
                core.queue.append(pin)
                if copies.get(key) is copy:
                    return self._read_from_arena(copy, unpin)
            finally:
                if not unpin.is_kept:
                    core.queue.append(unpin)

    def _read_without_copy(self, ref: RefInfo, ticket: CopyTicket, end_s: float | None) -> Any:
        """There is no copy (yet): its time is up, this node has no room, or the node where it lay is dead. In the last case
        its owner has it made again, or says why not."""
        core = self._core
        location = ticket.location
        size = f"{location.size / (1 << 20):.1f} MiB"
        what = f"The object {ref.object_id.hex()} ({size}) lies on node {location.node_id.hex()}"
        if core.lost_reason:
            raise core.lost_error()
        if not ticket.done:
            why = ticket.reason or "it is on its way"
            raise GetTimeoutError(
                f"Get timed out: some object(s) not ready. {what}, and no copy of it is here yet: {why}. It still comes; "
                f"call get again, with more time."
            )
        if ticket.code == ObjectStoreFullError.__name__:
            raise ObjectStoreFullError(
                f"{what}, and a copy of it does not fit here. {ticket.reason} Or let a task read it on the node where it "
                f"lies, and get fewer objects at a time; values that are looked at keep their room."
            )
        if ticket.code == ObjectFetchTimedOutError.__name__:
            raise ObjectFetchTimedOutError(f"{what}, which lives, and could not be read from there: {ticket.reason}.")
        if ticket.code != NodeDiedError.__name__ and not core.owner.recovery.is_dead(location.node_id):
            raise ObjectLostError(
                f"{what} and could not be read from there: {ticket.reason}. It was not made again, because the node is "
                f"alive; try once more."
            )
        core.queue.append(SourceLost(ref.object_id, location))
        return self.fetch(ref, end_s)

    def _read_from_disk(self, ref: RefInfo, value: Value, location: Location) -> Any:
        key = ref.object_id
        try:
            return self.decode(self._spilled.read(location), wrap_buffer=partial(self._hold_while_looked_at, ref))
        except SpilledValueLost as error:
            if value.location is not location:
                return self.unpack(key, value, ref.owner_address)  # It has left this node, which is about to leave.
            damage = (
                f"The object {key.hex()} was moved to disk because the object store was full, and is lost: {error}. "
                f"Run the code that made it again; if it was not you who touched the file, check the disk."
            )
            if not self._core.owner.recovery.can_make_again(key):
                raise ObjectLostError(damage) from error
            logger.warning("%s raybook runs the task that made it again.", damage)
            self._core.queue.append(SourceLost(key, location, damage))
            # Later in the same queue: it is waited for, not found.
            self.block(Wait([key], 1, False, None), None)
            return self.unpack(key, self._ready[key], ref.owner_address)

    def _hold_while_looked_at(self, ref: RefInfo, view: memoryview) -> memoryview:
        """The object is held as long as any view of it lives: its range of the file is cleared when it dies."""
        append = self._core.queue.append
        append(HoldRef(ref))
        return pinned_buffer(view, partial(append, ref.object_id))

    def get_one(self, ref: Any, timeout_s: float | None) -> Any:
        """The object of one ref; blocks until it is there or has failed."""
        key = ref.id
        value = self._ready.get(key)
        looks = 0
        end_s = None if timeout_s is None else time.monotonic() + timeout_s
        while value is None:
            # Once; again if it was there, and was lost with its node a moment ago. Raises when the cluster is lost.
            if not self.block(Wait([key], 1, True), timeout_s):
                looks += 1
                self._is_there([key], timeout_s, looks)
            value = self._ready.get(key)
        if value.inline is not None:
            return deserialize(value.inline)
        return self.unpack(key, value, ref.owner_address, end_s)

    def get(self, refs: Sequence[Any], timeout_s: float | None) -> list[Any]:
        """The objects of several refs in order; blocks until all are there or one has failed."""
        ready = self._ready
        keys = [ref.id for ref in refs]
        end_s = None if timeout_s is None else time.monotonic() + timeout_s
        if any(key not in ready for key in keys):
            self._wait_for_all(keys, timeout_s)
        values = []
        for key in keys:
            value = ready.get(key)
            while value is None:
                failed = self._find_error(keys)
                if failed is None:
                    # It was there, and was lost with its node a moment ago: it is on its way again.
                    self._wait_for_all([key], timeout_s)
                    value = ready.get(key)
                    continue
                self._note_errors(keys)
                raise failed
            values.append(value)
        if len(refs) > 1:
            self._begin_copies(refs)
        try:
            pairs = zip(refs, values, strict=True)
            return [self.unpack(ref.id, value, ref.owner_address, end_s) for ref, value in pairs]
        except BaseException:
            self._note_errors(keys)
            raise

    def _begin_copies(self, refs: Iterable[Any]) -> None:
        """Have copies made of those that lie on other nodes, all at once, and wait for none."""
        core = self._core
        if not core.owner.recovery.is_on:
            return
        append = core.queue.append
        here, copies = core.me.node_id, core.owner.objects.copies
        for ref in refs:
            value = self._ready.get(ref.id)
            location = value.location if value is not None else None
            if value is None or location is None or location.node_id == here or ref.id in copies:
                continue
            # As in ``unpack``: pinned until the bytes are here, so that they stay in their place.
            unpin = Unpin(ref.id, location.offset, is_due=False)
            pin = Pin(RefInfo(ref.id, ref.owner_address), location.offset, unpin)
            try:
                append(pin)
                if value.location is location:
                    core.submit(CopyTicket(ref.id, location, partial(append, unpin)))
                    unpin.is_kept = True
            finally:
                if not unpin.is_kept:
                    append(unpin)

    def _note_errors(self, keys: Sequence[bytes]) -> None:
        """Whoever asks for several results is told of one error, and has asked for all."""
        ready = self._ready
        for key in keys:
            value = ready.get(key)
            if value is not None and value.error is not None:
                value.error.seen = True

    def _find_error(self, keys: Sequence[bytes]) -> BaseException | None:
        for key in keys:
            value = self._ready.get(key)
            if value is not None and value.error is not None:
                return error_from_value(value.error, deserialize)
        return self._core.lost_error() if self._core.lost_reason else None

    def _wait_for_all(self, keys: list[bytes], timeout_s: float | None) -> None:
        looks = 0
        while not self.block(Wait(list(dict.fromkeys(keys)), len(set(keys)), True), timeout_s):
            looks += 1
            if self._is_there(keys, timeout_s, looks):
                return

    def _is_there(self, keys: list[bytes], timeout_s: float | None, looks: int) -> bool:
        """A wait ended without its values, for the ``looks``th time. True: they came just now; False: look once more.
        GetTimeoutError."""
        waiting = [key for key in keys if key not in self._ready]
        if not waiting:
            return True
        if timeout_s is not None and timeout_s <= 0 and self._core.queue and looks < LOOKS_MAX:
            return False  # On a busy machine, what was put before may not have been looked at yet.
        raise GetTimeoutError(
            f"Get timed out: some object(s) not ready: {len(waiting)} of {len(keys)} after {timeout_s:g} s. "
            f"The first of them, {waiting[0].hex()}: "
            f"{self._core.owner.explain(waiting[0])}. "
            f"The tasks go on; call get again, or cancel them."
        )

    def block(self, wait: Wait, timeout_s: float | None) -> bool:
        """Wait until the owner machine releases it. False on time-out. An interrupt withdraws the wait."""
        core = self._core
        if core.lost_reason:
            raise core.lost_error()
        if timeout_s is not None and timeout_s <= 0:
            # What was submitted before this call must have been looked at once.
            timeout_s = 0.005
        if self.before_block is not None:
            self.before_block()
        try:
            done = core.leading.wait_for(wait, timeout_s)
        except BaseException:
            core.submit(CancelWait(wait))
            raise
        finally:
            if self.after_block is not None:
                self.after_block()
        if not done:
            core.submit(CancelWait(wait))
        if core.lost_reason and not wait.done:
            raise core.lost_error()
        return done

    def wait(
        self, refs: Sequence[Any], num_returns: int, timeout_s: float | None, fetch_local: bool = True
    ) -> tuple[list[Any], list[Any]]:
        """(ready, not ready), both in input order; ``ready`` has at most ``num_returns``. fetch_local: what is ready, and
        lies on other nodes, begins to come here."""
        places = self._ready_places(refs, num_returns)
        if len(places) < num_returns and (timeout_s is None or timeout_s > 0 or self._core.queue):
            self.block(Wait([ref.id for ref in refs], num_returns, False, None), timeout_s)
            places = self._ready_places(refs, num_returns)
        rest: list[Any] = []
        begin = 0
        for place in places:
            rest += refs[begin:place]
            begin = place + 1
        rest += refs[begin:]
        ready = [refs[place] for place in places]
        if fetch_local:
            self._begin_copies(ready)
        return ready, rest

    def _ready_places(self, refs: Sequence[Any], count_max: int) -> list[int]:
        """Where the first ready ones stand. Stops as soon as there are enough: who collects many refs one by one finds
        one near the front."""
        ready = self._ready
        places: list[int] = []
        for place, ref in enumerate(refs):
            if ref.id in ready:
                places.append(place)
                if len(places) == count_max:
                    break
        return places

    def fetch(self, ref: RefInfo, end_s: float | None = None) -> Any:
        """An object that may be somebody else's, and is not held here yet; blocks until its owner tells where it is, or
        ``end_s`` (monotonic). It is held until it has been read: else it might move meanwhile, and nobody would tell us."""
        key = ref.object_id
        self._core.submit(HoldRef(ref))
        try:
            value = self._ready.get(key)
            if value is None:
                timeout_s = None if end_s is None else max(0.0, end_s - time.monotonic())
                if not self.block(Wait([key], 1, False, None), timeout_s):
                    self._is_there([key], timeout_s, LOOKS_MAX)
                value = self._ready[key]
            return self.unpack(key, value, ref.owner_address, end_s)
        finally:
            self._core.queue.append(key)


def _keep(append: Callable[[Any], None], unpin: Unpin, view: memoryview) -> memoryview:
    buffer = pinned_buffer(view, partial(append, unpin))
    unpin.is_kept = True
    return buffer
