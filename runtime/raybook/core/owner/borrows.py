"""Borrows: how owners learn that this process holds their objects, and when they hear that it does not any more.

    first reference here   → AddBorrows to the owner, who answers BorrowsAdded
    last reference gone    → DropBorrows, but not while any AddBorrows is unanswered: the container that a reference
                             came out of may be all that keeps it alive until then
    a task ends            → its reply waits until third owners have answered; the caller lets go when it hears it
    refs in return values  → held here until the caller says ReturnsTaken, which it does once their owners know of it

Knows nothing of values, leases or sockets. Invariants: a reference that comes and goes within one batch is never
mentioned; what was announced is given back exactly once; a reply is sent exactly once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from raybook.base.ids import owner_of, return_id
from raybook.base.specs import RefInfo, Value
from raybook.core.owner.records import HoldRef, SealItems, SealReply, ToPeer
from raybook.core.owner.reference_counter import ReferenceCounter
from raybook.protocol.messages.worker import AddBorrows, BorrowsAdded, DropBorrows, ReturnsTaken, TaskReplies


class Borrows:
    """One per owner machine. ``effects``: where messages to send are put. ``forget``: called with the ids that are held
    here no longer."""

    def __init__(self, references: ReferenceCounter, effects: list[Any], forget: Callable[[list[bytes]], None]) -> None:
        self._references = references
        self._effects = effects
        self._forget = forget
        self.fresh: dict[bytes, RefInfo] = {}
        """Came to be held since the last ``announce``. Like ``taken``, looked at after each batch."""
        self._announced: set[bytes] = set()
        self._acks: dict[int, bytes] = {}
        self._next_ack = 1
        self._waiting: list[tuple[ToPeer, int]] = []
        self.taken: list[ToPeer] = []
        self._return_holds: dict[bytes, tuple[bytes, list[bytes]]] = {}
        self._parted: dict[bytes, dict[bytes, None]] = {}
        """Processes that are cut off → what of ours they had borrowed then."""

    # Holding

    def on_hold(self, event: HoldRef) -> None:
        """A reference came to life here. What ``hold`` does, in one function: a container brings thousands."""
        ref = event.ref
        key = ref.object_id
        references = self._references
        count = references.counts.get(key)
        if count:
            references.counts[key] = count + 1
        elif references.hold(ref):
            self.fresh[key] = ref

    def hold(self, ref: RefInfo) -> None:
        """One more reference in this process, to anybody's object."""
        if self._references.hold(ref):
            self.fresh[ref.object_id] = ref

    def hold_contained(self, container: bytes, refs: Iterable[RefInfo]) -> None:
        """The value of ``container`` holds these from now on."""
        for ref in self._references.contain(container, refs):
            self.fresh[ref.object_id] = ref

    def announce(self) -> None:
        """Tell owners of what this process has come to hold; then those whom it came from."""
        if self.fresh:
            self._announce_fresh()
        if self.taken:
            taken = self.taken.copy()
            self.taken.clear()
            for message in taken:
                self._send_when_known(message, self._next_ack)

    def _announce_fresh(self) -> None:
        counts, announced = self._references.counts, self._announced
        by_owner: dict[tuple[bytes, str], list[bytes]] = {}
        for key, ref in self.fresh.items():
            if key in counts and ref.owner_address and key not in announced:
                announced.add(key)
                by_owner.setdefault((owner_of(key), ref.owner_address), []).append(key)
        self.fresh.clear()
        for (owner, address), keys in by_owner.items():
            ack = self._next_ack
            self._next_ack += 1
            self._acks[ack] = owner
            self._effects.append(ToPeer(owner, address, AddBorrows(keys, ack)))

    def give_back(self) -> None:
        """Tell owners of what this process holds no longer."""
        returned = self._references.returned
        if not returned or self._acks:
            return
        by_owner: dict[tuple[bytes, str], list[bytes]] = {}
        counts, announced = self._references.counts, self._announced
        gone = [(key, address) for key, address in returned if key not in counts]
        returned.clear()
        self._forget([key for key, _ in gone])
        for key, address in gone:
            if key in announced:
                announced.discard(key)
                by_owner.setdefault((owner_of(key), address), []).append(key)
        for (client_id, address), keys in by_owner.items():
            self._effects.append(ToPeer(client_id, address, DropBorrows(keys)))

    # What others say

    def on_add(self, client_id: bytes, message: AddBorrows) -> None:
        """Another process holds objects of ours."""
        for key in message.object_ids:
            self._references.add_borrower(key, client_id)
            if self._parted and client_id in self._parted:
                self._parted[client_id].pop(key, None)
        if message.ack_id:
            self._effects.append(ToPeer(client_id, "", BorrowsAdded(message.ack_id)))

    def on_drop(self, client_id: bytes, message: DropBorrows) -> None:
        """It holds them no longer."""
        for key in message.object_ids:
            self._references.drop_borrower(key, client_id)

    def on_added(self, client_id: bytes, message: BorrowsAdded) -> None:
        """An owner knows of us."""
        self._acknowledge(message.ack_id)

    def _acknowledge(self, ack: int) -> None:
        if self._acks.pop(ack, None) is None or not self._waiting:
            return
        waiting, self._waiting = self._waiting, []
        for effect, last_ack in waiting:
            self._send_when_known(effect, last_ack)

    def take_returns(self, client_id: bytes, task_id: bytes) -> None:
        """The references in a task's return values are held here: their worker may let go, when their owners know."""
        self.taken.append(ToPeer(client_id, "", ReturnsTaken(task_id)))

    def is_handing_over(self) -> bool:
        """Whether a caller has not yet taken over what was in the return values of its task."""
        return bool(self._return_holds or self._waiting)

    def on_returns_taken(self, client_id: bytes, message: ReturnsTaken) -> None:
        """The caller has borrowed what was in a task's return values."""
        _, keys = self._return_holds.pop(message.task_id, (b"", ()))
        for key in keys:
            self._references.drop(key)

    def on_client_gone(self, client_id: bytes) -> None:
        """A process died: what it borrowed is given back, what it was to take is dropped, nothing waits for it."""
        self._references.drop_client(client_id)
        self._parted.pop(client_id, None)
        self._wait_no_longer(client_id)

    def on_client_cut_off(self, client_id: bytes) -> None:
        """The network to a process broke. Nothing waits for it; what it borrowed stays until ``give_up``."""
        self._parted[client_id] = dict.fromkeys(
            key for key, borrowers in self._references.borrowers.items() if client_id in borrowers
        )
        self._wait_no_longer(client_id)

    def give_up(self, client_id: bytes) -> None:
        """It has given up what it had borrowed then, by the same rule; not what it has borrowed again since."""
        for key in self._parted.pop(client_id, ()):
            self._references.drop_borrower(key, client_id)

    def _wait_no_longer(self, client_id: bytes) -> None:
        for task_id in [task_id for task_id, (caller, _) in self._return_holds.items() if caller == client_id]:
            self.on_returns_taken(client_id, ReturnsTaken(task_id))
        for ack in [ack for ack, owner in self._acks.items() if owner == client_id]:
            self._acknowledge(ack)

    def was_lost(self, key: bytes) -> None:
        """The owner of a borrowed id is dead; nobody is there to give it back to."""
        self._announced.discard(key)

    # Replies of this process, as a worker

    def on_seal(self, seal: SealReply) -> None:
        """A task ended. What it still holds must be known to the owners before the caller hears of the end."""
        self._seal(seal.caller, seal.reply.task_id, seal.reply.returns, TaskReplies([seal.reply]))

    def on_seal_items(self, seal: SealItems) -> None:
        """The same for items of a stream. What one caller is sent this way stays in order."""
        items = seal.items
        self._seal(seal.caller, return_id(items.task_id, items.index), items.values, items)

    def _seal(self, caller: bytes, hold_id: bytes, values: Iterable[Value], message: Any) -> None:
        held = [ref for value in values for ref in value.contained or ()]
        if held:
            for ref in held:
                self.hold(ref)
            self._return_holds[hold_id] = (caller, [ref.object_id for ref in held])
        self.announce()
        self._send_when_known(ToPeer(caller, "", message), self._next_ack)

    def _send_when_known(self, effect: ToPeer, last_ack: int) -> None:
        """The receiver itself need not have answered: what we borrow of it was said earlier on the very connection that
        carries the message."""
        receiver = effect.client_id
        if any(ack < last_ack and owner != receiver for ack, owner in self._acks.items()):
            self._waiting.append((effect, last_ack))
            return
        self._effects.append(effect)
