"""Argument reader: the arguments of a task, out of its message, the arena, and what was made here just before it.

Which results of this worker fill the empty slots of a task, ``core/worker/recent_results`` decides. Main thread only.
"""

from __future__ import annotations

from typing import Any

from raybook.core.worker.recent_results import RecentResults
from raybook.protocol.messages.worker import ArgRef, TaskSpec
from raybook.protocol.serialization import deserialize
from raybook.worker import args as arguments
from raybook.worker.args import NO_ARGUMENTS
from raybook.worker.values import Values


class ArgumentReader:
    """One per worker. ``kept_max``: how many tasks' results are kept."""

    def __init__(self, values: Values, kept_max: int) -> None:
        self._values = values
        made = RecentResults(kept_max)
        self.keep = made.keep
        self.resolve = made.resolve

    def read(self, spec: TaskSpec) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """The call's arguments; fetches what the caller did not resolve (arguments of an actor's ``__init__``)."""
        payload = spec.args
        if payload == NO_ARGUMENTS:
            return (), {}
        if not payload:
            if spec.args_value is None:
                return (), {}
            args, kwargs = self._read_slot(spec.args_value)
        else:
            args, kwargs = deserialize(payload)
        if spec.slots:
            values = [self._read_slot(slot) for slot in spec.slots]
            args, kwargs = arguments.join(args, kwargs, values)
        return args, kwargs

    def _read_slot(self, slot: ArgRef) -> Any:
        if slot.value is None:
            return self._values.fetch(slot.ref)
        return self._values.unpack(slot.ref.object_id, slot.value, slot.ref.owner_address)
