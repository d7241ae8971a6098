"""ObjectRef: a handle on a value that exists, is being made, or failed.

It knows an id, where the owner listens, and one callable to give the id back to. It does not know engines: whatever needs
one goes through ``api/context``. Invariants: one Python object gives back exactly one count; ``__del__`` does that one
call and nothing else, because the collector may run it inside any locked section of this thread (the callable is the
engine's ``deque.append``); a ref whose callable is not the current engine's is of another session and inert.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import TYPE_CHECKING, Any

from raybook.base.ids import task_of

if TYPE_CHECKING:
    from concurrent.futures import Future


class ObjectRef:
    """Made by the engine: ``ObjectRef(id, owner_address, release)``. Compares and hashes by id."""

    __slots__ = ("__weakref__", "_release", "id", "owner_address")

    def __init__(self, id: bytes, owner_address: str, release: Callable[[bytes], None]) -> None:
        self.id = id
        self.owner_address = owner_address
        self._release = release

    def __del__(self) -> None:
        self._release(self.id)

    def hex(self) -> str:
        """The id in hexadecimal."""
        return self.id.hex()

    def binary(self) -> bytes:
        """The id."""
        return self.id

    def task_id(self) -> bytes:
        """The id of the task that makes the value."""
        return task_of(self.id)

    def is_nil(self) -> bool:
        """Whether this names nothing."""
        return not self.id

    def future(self) -> Future:
        """A ``concurrent.futures.Future`` of the value. It must not be awaited on for more than its result: cancelling
        it leaves the task alone (that is ``raybook.cancel``)."""
        from raybook.api import awaiting

        return awaiting.future_of(self)

    def __await__(self) -> Generator[Any, None, Any]:
        from raybook.api import awaiting

        return awaiting.wait_for(self).__await__()

    def __eq__(self, other: object) -> bool:
        return self.id == other.id if isinstance(other, ObjectRef) else NotImplemented

    def __hash__(self) -> int:
        return hash(self.id)

    def __repr__(self) -> str:
        return f"ObjectRef({self.id.hex()})"

    def __copy__(self) -> ObjectRef:
        return self

    def __deepcopy__(self, memo: dict) -> ObjectRef:
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        # Reached by picklers that are not the engine's (pickle.dumps in user code): the count is not told to anybody
        # until the bytes are loaded, so the ref must outlive them here.
        from raybook.api.context import rebuild_ref

        return rebuild_ref, (self.id, self.owner_address)

    def __iter__(self) -> Any:
        raise TypeError(
            "An ObjectRef is one value and cannot be iterated. Get it first with raybook.get(ref), or let the task "
            "return several refs with num_returns."
        )

    def __bool__(self) -> bool:
        return True
