"""ObjectRef: a handle on a value that exists, is being made, or failed.

It knows an id, where the owner listens, and one callable to give the id back to. Invariants: one Python object gives
back exactly one count; ``__del__`` does that one call and nothing else, because the collector may run it inside any
locked section of this thread (the callable is the engine's ``deque.append``); a ref whose callable is not the current
engine's is of another session, or of the parent process, and inert.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Generator
from concurrent.futures import Future
from types import coroutine
from typing import Any

from raybook.api.context import current_runtime, started_engine
from raybook.api.public_ids import JobID, TaskID
from raybook.base.errors import StaleReferenceError
from raybook.base.ids import OBJECT_ID_BYTES, task_of
from raybook.base.specs import RefInfo
from raybook.engines.engine import Engine

NIL_ID = b"\xff" * OBJECT_ID_BYTES


class ObjectRef:
    """Made by the engine: ``ObjectRef(id, owner_address, release)``. Compares and hashes by id.

    ``ObjectRef(id)`` is another handle on an object that this process knows by its id.
    """

    __slots__ = ("__weakref__", "_release", "id", "owner_address")

    def __init__(self, id: bytes, owner_address: str = "", release: Callable[[bytes], None] | None = None) -> None:
        """TypeError and ValueError for what is no id."""
        if release is None:
            # Until the id is known to be one: ``__del__`` comes in any case.
            self.id = id
            self._release: Callable[[bytes], None] = _release_nothing
            release = _counted(id)
        self.id = id
        self.owner_address = owner_address
        self._release = release

    def __del__(self) -> None:
        self._release(self.id)

    @classmethod
    def nil(cls) -> ObjectRef:
        """The reference that names nothing."""
        return cls(NIL_ID, "", _release_nothing)

    @classmethod
    def from_random(cls) -> ObjectRef:
        """A reference that names nothing yet, and never will."""
        return cls(os.urandom(OBJECT_ID_BYTES), "", _release_nothing)

    @classmethod
    def from_binary(cls, id_bytes: bytes) -> ObjectRef:
        """Another handle on the object that has this id (``binary()``), as long as this process knows it."""
        return cls(id_bytes)

    @classmethod
    def from_hex(cls, hex_id: str) -> ObjectRef:
        """The same from what ``hex()`` wrote."""
        return cls(bytes.fromhex(hex_id))

    def __class_getitem__(cls, item: object) -> type:
        # ``ObjectRef[int]`` in annotations.
        return cls

    def hex(self) -> str:
        """The id in hexadecimal."""
        return self.id.hex()

    def binary(self) -> bytes:
        """The id."""
        return self.id

    def task_id(self) -> TaskID:
        """The id of the task that makes the value."""
        return TaskID(task_of(self.id))

    def job_id(self) -> JobID:
        """The id of this process's job: references travel within one."""
        return JobID(engine_of(self).job_id)

    def as_future(self, _internal: bool = False) -> Any:
        """An asyncio future of the value, on the running loop. RuntimeError outside of one."""
        return _asyncio().ensure_future(_value_of(self))

    @classmethod
    def size(cls) -> int:
        """Bytes of an id."""
        return OBJECT_ID_BYTES

    def call_site(self) -> str:
        """The line of code that made it (``In[3]:2`` in a notebook), "" where that is not recorded; ``raybook.memory``
        tells of all. Cost: 3 µs for each object of this process."""
        mine = self.hex()
        return next((row["call_site"] for row in engine_of(self).memory() if row["object_id"] == mine), "")

    def is_nil(self) -> bool:
        """Whether this names nothing."""
        return self.id == NIL_ID

    def future(self) -> Future:
        """A ``concurrent.futures.Future`` of the value. Cancelling the future leaves the task alone (that is what
        ``raybook.cancel`` is for). The value is unpickled in the engine's I/O thread."""
        engine = engine_of(self)
        future: Future = Future()
        future.object_ref = self  # type: ignore[attr-defined]

        def settle() -> None:
            if future.set_running_or_notify_cancel():
                _settle(future, engine, self)

        engine.when_ready(self, settle)
        return future

    def _on_completed(self, callback: Callable[[Any], Any]) -> None:
        """Call ``callback`` with the value, or with the error, once there is one; in the engine's I/O thread."""

        def tell(future: Future) -> None:
            error = future.exception()
            callback(future.result() if error is None else error)

        self.future().add_done_callback(tell)

    def __await__(self) -> Generator[Any, None, Any]:
        engine = engine_of(self)
        yield from until_ready(engine, self)
        return engine.get((self,), None)[0]

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
        # Reached by picklers that are not the engine's (pickle.dumps in user code). Nobody is told that the bytes hold
        # a reference, so this ref must outlive them.
        return rebuild_ref, (self.id, self.owner_address)

    def __iter__(self) -> Any:
        raise TypeError(
            "An ObjectRef is one value and cannot be iterated. Get it first with raybook.get(ref), or let the task "
            "return several refs with num_returns."
        )


@coroutine
def until_ready(engine: Engine, ref: Any) -> Generator[Any, None, None]:
    """Await that what has this ``id`` is ready. RuntimeError outside an event loop."""
    loop = _asyncio().get_running_loop()
    ready = loop.create_future()

    def wake() -> None:
        if not ready.done():
            ready.set_result(None)

    def on_ready() -> None:
        if not loop.is_closed():
            loop.call_soon_threadsafe(wake)

    engine.when_ready(ref, on_ready)
    yield from ready


def engine_of(ref: ObjectRef) -> Engine:
    """The engine that can serve this ref. StaleReferenceError for a ref of another session."""
    engine = current_runtime.engine
    if engine is None or ref._release is not engine.release:
        raise stale(ref)
    return engine


def stale(ref: ObjectRef) -> StaleReferenceError:
    """The error of a ref that belongs to another session."""
    return StaleReferenceError(
        f"{ref!r} belongs to an earlier raybook session, to another cluster, or to the process this one was "
        "forked from. Its value went with that session. Run the cell that made it again, or pass values between "
        "sessions by file."
    )


def _counted(id: object) -> Callable[[bytes], None]:
    """Count one more handle on an object known by its id; how to give it back."""
    if not isinstance(id, bytes):
        raise TypeError(f"Unsupported type: {type(id)}, expected bytes.")
    if len(id) != OBJECT_ID_BYTES:
        raise ValueError(f"ID string needs to have length {OBJECT_ID_BYTES}, got {len(id)}.")
    engine = current_runtime.engine
    if engine is None or id == NIL_ID:
        return _release_nothing
    adopted = engine.adopt_ref(id, "")
    adopted._release = _release_nothing  # Its count is ours from here on.
    return engine.release


def _release_nothing(id: bytes) -> None:
    pass


def reduce_ref(ref: ObjectRef, contained: list[Any]) -> tuple[Any, ...]:
    """The engine's reducer: notes the ref among those a value contains, so that it is counted on the way."""
    contained.append(RefInfo(ref.id, ref.owner_address))
    return rebuild_ref, (ref.id, ref.owner_address)


def _asyncio() -> Any:
    """Not imported here: who runs a loop has it, and others need not pay 20 ms for it."""
    asyncio = sys.modules.get("asyncio")
    if asyncio is None:
        raise RuntimeError("An ObjectRef can be awaited only inside an asyncio event loop; use raybook.get(ref).")
    return asyncio


async def _value_of(ref: ObjectRef) -> Any:
    return await ref


def rebuild_ref(object_id: bytes, owner_address: str) -> ObjectRef:
    """What a pickled ref is loaded with. RuntimeError in a process that is not connected."""
    return (current_runtime.engine or started_engine()).adopt_ref(object_id, owner_address)


def _settle(future: Future, engine: Engine, ref: ObjectRef) -> None:
    try:
        value = engine.get((ref,), 0)[0]
    except Exception as error:  # noqa: BLE001 - whatever the task raised belongs into the future.
        future.set_exception(error)
    else:
        future.set_result(value)


ObjectRef.__module__ = "raybook"
"""Its public home, which is what error texts name."""
