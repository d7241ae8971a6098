"""Orders: what somebody outside wants done by the process whose affair it is: tasks cancelled, a trial stopped.

An order has a verb and what belongs to it, and goes to every process of the cluster (``protocol/messages/survey``); each
does what is its own and answers with rows of what it did, [] for nothing. Runs on the I/O thread, so handlers take note and
return. Knows one verb itself: ``cancel``. Libraries add theirs (``api/orders``).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from raybook.base.ids import is_actor_call
from raybook.core.owner.records import CancelCommand, TaskRecord
from raybook.worker.core_process import CoreProcess

CANCEL = "cancel"

Handler = Callable[[dict[str, Any]], dict[str, Any] | None]
"""What the order says → what was done; None when it is not this handler's affair."""


class OrderDesk:
    """One per process and cluster."""

    def __init__(self, core: CoreProcess) -> None:
        self._core = core
        self._handlers: dict[str, tuple[Handler, ...]] = {CANCEL: (self._cancel,)}

    def add(self, verb: str, handler: Handler) -> Callable[[], None]:
        """Have ``handler`` asked for orders of this verb, until the returned function is called. Any thread."""
        self._handlers[verb] = (*self._handlers.get(verb, ()), handler)

        def remove() -> None:
            self._handlers[verb] = tuple(known for known in self._handlers.get(verb, ()) if known is not handler)

        return remove

    def take(self, order: bytes) -> list[dict[str, Any]]:
        """Do what of it is ours. A handler's mistake is its row's ``error``."""
        try:
            wish = msgspec.msgpack.decode(order, type=dict[str, Any])
        except msgspec.MsgspecError as error:
            return [{"error": f"This is no order: {error}"}]
        rows = []
        for handler in self._handlers.get(str(wish.get("verb")), ()):
            try:
                done = handler(wish)
            except Exception as error:  # noqa: BLE001 - the I/O thread is everybody's; a library's mistake must not end it.
                done = {"error": f"{type(error).__name__}: {error}"}
            if done is not None:
                rows.append(done)
        return rows

    def _cancel(self, wish: dict[str, Any]) -> dict[str, Any] | None:
        """``task_ids`` (hex), or ``cell`` ("In[3]") with ``kernel_id`` where several kernels share the cluster, or
        ``all``: what this process submitted and is not over. force: also end the worker of a task that does not listen."""
        chosen = [record for record in self._core.unfinished.values() if self._is_meant(record, wish)]
        for record in chosen:
            task_id = record.spec.task_id
            force = bool(wish.get("force")) and not is_actor_call(task_id)
            self._core.submit(CancelCommand(task_id, force, True))
        return {"cancelled": len(chosen)} if chosen else None

    def _is_meant(self, record: TaskRecord, wish: dict[str, Any]) -> bool:
        wanted_ids = wish.get("task_ids")
        if wanted_ids:
            return record.spec.task_id.hex() in wanted_ids
        mine = self._core.kernel_id
        kernel_id = wish.get("kernel_id") or mine
        cell = wish.get("cell")
        if cell:
            # A session's owner, which is no kernel, has the cells of the one that it works for.
            return kernel_id == (mine or kernel_id) and f" {cell}:" in record.call_site
        return kernel_id == mine and bool(wish.get("all"))
