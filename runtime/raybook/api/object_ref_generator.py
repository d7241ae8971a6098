"""ObjectRefGenerator: what a generator task or method returns: refs of its items, one by one, as they are made.

It knows the task, how far it has been read, and the engine that has the items. Invariants: one generator gives its
stream back exactly once, by one call of ``release`` in ``__del__`` and nothing else (see ``object_ref``); each item is
handed out once; after the end it stays at its end. It stays in the process that submitted the task.
"""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator, Iterator
from typing import NoReturn

from raybook.api.context import current_runtime
from raybook.api.object_ref import ObjectRef, engine_of, until_ready
from raybook.base.errors import GetTimeoutError
from raybook.base.ids import return_id, stream_id
from raybook.engines.engine import Engine


class ObjectRefGenerator:
    """Iterate over it with ``for`` or ``async for``; each item is an ObjectRef. ``wait`` takes it beside refs and finds
    it ready when its next item is there (or its end). ``cancel`` cancels its task. Dropping it frees what was not read
    and stops the task at its next item."""

    __slots__ = ("__weakref__", "_next_index", "_ref", "_release", "_stream_id", "_task_id", "owner_address")

    def __init__(self, ref: ObjectRef, next_index: int = 1) -> None:
        self._ref = ref
        self._task_id = ref.task_id()
        self._next_index = next_index
        self._stream_id = stream_id(self._task_id)
        self._release = ref._release
        self.owner_address = ref.owner_address

    def __del__(self) -> None:
        self._release(self._stream_id)

    @property
    def id(self) -> bytes:
        """The id of the next item: what ``wait`` waits for."""
        return return_id(self._task_id, self._next_index)

    def task_id(self) -> bytes:
        """The id of the task."""
        return self._task_id

    # One item

    def __iter__(self) -> Iterator[ObjectRef]:
        return self

    def __next__(self) -> ObjectRef:
        """The ref of the next item; blocks until it is made. What the generator raised comes as a last item, whose
        ``get`` raises it."""
        index = self._next_index
        ref = self._engine().next_item(self._task_id, index, None)
        if ref is None:
            raise StopIteration
        self._next_index = index + 1
        return ref

    def _next_sync(self, timeout_s: float | None = None) -> ObjectRef:
        """The same with a time limit in seconds: the nil ref when it has passed. ``next`` may be tried again."""
        index = self._next_index
        try:
            ref = self._engine().next_item(self._task_id, index, timeout_s)
        except GetTimeoutError:
            return ObjectRef.nil()
        if ref is None:
            raise StopIteration
        self._next_index = index + 1
        return ref

    async def _next_async(self, timeout_s: float | None = None) -> ObjectRef:
        """``_next_sync`` on an event loop."""
        engine = self._engine()
        if engine.peek_item(self._task_id, self._next_index) is None:
            asyncio = sys.modules["asyncio"]
            try:
                await asyncio.wait_for(self._until_next(), timeout_s)
            except asyncio.TimeoutError:
                return ObjectRef.nil()
        return await self.__anext__()

    async def _until_next(self) -> None:
        await until_ready(self._engine(), self)

    def __aiter__(self) -> AsyncIterator[ObjectRef]:
        return self

    async def __anext__(self) -> ObjectRef:
        index = self._next_index
        engine = self._engine()
        if engine.peek_item(self._task_id, index) is None:
            await until_ready(engine, self)
        ref = engine.next_item(self._task_id, index, None)
        if ref is None:
            raise StopAsyncIteration
        self._next_index = index + 1
        return ref

    def send(self, value: object) -> NoReturn:
        """Not supported: the generator runs in another process."""
        raise NotImplementedError("`gen.send` is not supported: the generator runs in another process.")

    def throw(self, *error: object) -> NoReturn:
        """Not supported; ``raybook.cancel(generator)`` ends it."""
        raise NotImplementedError("`gen.throw` is not supported; raybook.cancel(generator) ends it.")

    def close(self) -> NoReturn:
        """Not supported; dropping the generator, or ``raybook.cancel``, ends it."""
        raise NotImplementedError("`gen.close` is not supported; drop the generator, or call raybook.cancel on it.")

    # Questions

    def completed(self) -> ObjectRef:
        """A ref that is ready when the task has ended, with None; ``get`` of it raises if the task was cancelled or
        lost its worker (what the generator itself raised is its last item)."""
        return self._ref

    def next_ready(self) -> bool:
        """Whether an item is there, so that ``next`` would not block. False at the end."""
        return self._engine().peek_item(self._task_id, self._next_index) is True

    def is_finished(self) -> bool:
        """Whether all items have been handed out and no more will come."""
        return self._engine().peek_item(self._task_id, self._next_index) is False

    def _engine(self) -> Engine:
        engine = current_runtime.engine
        return engine if engine is not None and self._release is engine.release else engine_of(self._ref)

    def __repr__(self) -> str:
        return f"ObjectRefGenerator({self._task_id.hex()}, next item {self._next_index})"

    def __reduce__(self) -> NoReturn:
        raise TypeError(
            "You cannot return or pass a generator to other task: serializing an ObjectRefGenerator is not allowed, "
            "because its items are handed out once. Pass the refs that it yields, or list(generator)."
        )


ObjectRefGenerator.__module__ = "raybook"
"""Its public home, which is what error texts name."""
