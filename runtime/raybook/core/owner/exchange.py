"""Exchange: values that this process needs of other owners, and values that others want of this one.

Invariants: an owner is asked once for an object while its answer is out, and not before it knows that we hold it: it
must be able to tell us when the object moves; every process that asked is answered once.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from raybook.base.ids import owner_of
from raybook.base.specs import ErrorValue, Location, RefInfo, Value
from raybook.core.owner.object_directory import ObjectDirectory
from raybook.core.owner.records import ToPeer
from raybook.core.owner.reference_counter import ReferenceCounter
from raybook.protocol.messages.worker import GetObject, ObjectReady


class Exchange:
    def __init__(self, references: ReferenceCounter, objects: ObjectDirectory, effects: list[Any]) -> None:
        self._references = references
        self._objects = objects
        self._effects = effects
        self._fetching: set[bytes] = set()
        self.needed: list[RefInfo] = []
        """To be asked for at the end of the batch."""
        self.asked: dict[bytes, list[bytes]] = {}
        """Object → who wants to hear of it."""
        self.lost_with: dict[bytes, bytes] = {}
        """Borrowed objects that were lost → the node that they lay on: their owner may not know yet."""
        self.on_lost: Callable[[bytes, Location], None] = lambda key, location: None
        """Told of an object of ours that a borrower could not read, because the node where it lies is dead."""

    def need(self, ref: RefInfo) -> None:
        """A value is needed here. Nothing to do for our own: its task will make it."""
        key = ref.object_id
        if key in self._fetching or self._references.is_owned(key):
            return
        self._fetching.add(key)
        self.needed.append(ref)

    def ask(self) -> None:
        """At the end of a batch, after borrows were announced: ask for what is needed and still held."""
        if not self.needed:
            return
        needed = self.needed.copy()
        self.needed.clear()
        for ref in needed:
            if self._references.is_held(ref.object_id):
                self._ask(ref)
            else:
                self._fetching.discard(ref.object_id)

    def _ask(self, ref: RefInfo) -> None:
        key = ref.object_id
        address = ref.owner_address or self._references.owners.get(key, "")
        lost_with = self.lost_with.pop(key, b"") if self.lost_with else b""
        self._effects.append(ToPeer(owner_of(key), address, GetObject(key, lost_with)))

    def is_coming(self, key: bytes) -> bool:
        """Whether an owner has been asked and has not answered."""
        return key in self._fetching

    def stop_waiting(self, key: bytes) -> None:
        """It arrived, is lost, or nobody wants it any more."""
        self._fetching.discard(key)

    def stop_waiting_for(self, keys: list[bytes]) -> None:
        """Nobody wants any of these any more."""
        if self._fetching:
            self._fetching.difference_update(keys)
        if self.lost_with:
            for key in keys:
                self.lost_with.pop(key, None)

    def on_get_object(self, client_id: bytes, message: GetObject) -> None:
        """Another process wants a value of ours: now, or when it is there."""
        key = message.object_id
        value = self._objects.values.get(key)
        if message.lost_with and value is not None and value.location is not None:
            if value.location.node_id == message.lost_with:
                self.on_lost(key, value.location)
                value = self._objects.values.get(key)
        if value is None and not self._references.is_alive(key):
            text = f"The object {key.hex()} was freed by its owner while another process still asked for it."
            value = Value(error=ErrorValue("ObjectLostError", text))
        if value is not None:
            self._tell(client_id, key, value)
        else:
            self.asked.setdefault(key, []).append(client_id)

    def answer(self, key: bytes, value: Value) -> None:
        """A value is there: tell everybody who asked."""
        for client_id in self.asked.pop(key, ()):
            self._tell(client_id, key, value)

    def _tell(self, client_id: bytes, key: bytes, value: Value) -> None:
        if value.error is not None:
            value.error.seen = True
        self._effects.append(ToPeer(client_id, "", ObjectReady(key, value)))


def owner_died(key: bytes, client_id: bytes, reason: str = "", is_cut_off: bool = False) -> Value:
    """What a borrowed object becomes when its owner has died, or is out of reach. reason: what is known of why."""
    because = f" ({reason})" if reason else ""
    owner = f"The object {key.hex()} cannot be read: its owner, process {client_id.hex()},"
    if is_cut_off:
        text = (
            f"{owner} is out of reach from here{because}, and only it knows where the object is. Look at the network "
            f"between the two nodes; get the object where it was made, or make it again."
        )
    else:
        text = (
            f"{owner} has died{because}, and with it what it knew of the object. Create objects that must outlive a "
            f"worker from the driver or an actor."
        )
    return Value(error=ErrorValue("OwnerDiedError", text))
