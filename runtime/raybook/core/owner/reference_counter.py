"""Reference counter: who still needs which object, and what is garbage.

One number per id: references in this process (each ObjectRef, each pinned view), tasks in flight that take it as an
argument, and containers that hold it. For objects we own, the processes that borrow them are kept beside it. Actor
handles are counted the same way under the actor's id. Knows nothing of values, regions or tasks.

Invariants: no count is zero or negative; an owned id is released exactly once, when its count and its borrowers are
gone; a borrowed id is given back exactly once, when its count is gone.
"""

from __future__ import annotations

from collections.abc import Iterable

from raybook.base.ids import CLIENT_ID_BYTES
from raybook.base.specs import RefInfo


class ReferenceCounter:
    """``released`` collects owned ids that are garbage, ``returned`` borrowed ids to give back (with the owner's
    address); the owner machine empties both after each batch."""

    __slots__ = ("_client_id", "borrowers", "contained", "counts", "owners", "released", "returned")

    def __init__(self, client_id: bytes) -> None:
        self._client_id = client_id
        self.counts: dict[bytes, int] = {}
        self.borrowers: dict[bytes, set[bytes]] = {}
        self.contained: dict[bytes, list[bytes]] = {}
        self.owners: dict[bytes, str] = {}
        self.released: list[bytes] = []
        self.returned: list[tuple[bytes, str]] = []

    def is_owned(self, key: bytes) -> bool:
        """Whether this process owns the id. Cost: one slice."""
        return key[:CLIENT_ID_BYTES] == self._client_id

    def create(self, key: bytes) -> None:
        """A new owned id with one reference, the one the user holds."""
        self.counts[key] = 1

    def hold(self, ref: RefInfo) -> bool:
        """One more reference. True when this is the first of a *borrowed* id: its owner must be told."""
        key = ref.object_id
        count = self.counts.get(key, 0)
        self.counts[key] = count + 1
        if count or key[:CLIENT_ID_BYTES] == self._client_id:
            return False
        self.owners[key] = ref.owner_address
        return True

    def hold_again(self, key: bytes) -> None:
        """One more reference to an id that is counted already."""
        self.counts[key] = self.counts.get(key, 0) + 1

    def drop(self, key: bytes) -> None:
        """One reference less. Dropping an unknown id is ignored: it belongs to an earlier life of this process."""
        count = self.counts.get(key)
        if count is None:
            return
        if count > 1:
            self.counts[key] = count - 1
            return
        del self.counts[key]
        if key[:CLIENT_ID_BYTES] != self._client_id:
            self.returned.append((key, self.owners.pop(key, "")))
            self._drop_contained(key)
        elif key not in self.borrowers:
            self.released.append(key)
            if key in self.contained:
                self._drop_contained(key)

    def contain(self, container: bytes, refs: Iterable[RefInfo]) -> list[RefInfo]:
        """The value of ``container`` holds these; they live as long as it does. Returns those borrowed for the first
        time."""
        fresh = [ref for ref in refs if self.hold(ref)]
        self.contained.setdefault(container, []).extend(ref.object_id for ref in refs)
        return fresh

    def _drop_contained(self, container: bytes) -> None:
        for key in self.contained.pop(container, ()):
            self.drop(key)

    def add_borrower(self, key: bytes, client_id: bytes) -> bool:
        """Another process holds an owned id. False when the id is gone already."""
        if key not in self.counts and key not in self.borrowers:
            return False
        self.borrowers.setdefault(key, set()).add(client_id)
        return True

    def drop_borrower(self, key: bytes, client_id: bytes) -> None:
        """That process holds it no longer."""
        holders = self.borrowers.get(key)
        if holders is None:
            return
        holders.discard(client_id)
        if not holders:
            del self.borrowers[key]
            if key not in self.counts:
                self.released.append(key)
                self._drop_contained(key)

    def drop_client(self, client_id: bytes) -> None:
        """A process died: all it borrowed from us is given back. Cost: a walk over all borrowed-out ids."""
        for key in [key for key, holders in self.borrowers.items() if client_id in holders]:
            self.drop_borrower(key, client_id)

    def owns_any(self) -> bool:
        """Whether somebody still needs an object of this process. Cost: linear in the counted ids at worst."""
        return bool(self.borrowers) or any(self.is_owned(key) for key in self.counts)

    def is_held(self, key: bytes) -> bool:
        """Whether anything in this process refers to the id."""
        return key in self.counts

    def is_alive(self, key: bytes) -> bool:
        """Whether anything at all, here or in a borrower, refers to the id."""
        return key in self.counts or key in self.borrowers

    def check_invariants(self) -> None:
        assert all(count > 0 for count in self.counts.values()), "a count is not positive"
        assert all(self.borrowers.values()), "an empty set of borrowers is kept"
        for container in self.contained:
            assert container in self.counts or container in self.borrowers, "a dead container holds references"
        for key in self.owners:
            assert key in self.counts, "the owner of an id nobody holds is remembered"

    def statistics(self) -> dict[str, int]:
        return {"held": len(self.counts), "lent": len(self.borrowers), "borrowed": len(self.owners)}
