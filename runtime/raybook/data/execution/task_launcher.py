"""Launcher: starts tasks of one execution: pickles each program once, and knows which options tasks get.

A program that cannot be pickled fails here, on the driver, before any task of its operator has run.
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from typing import Any

import numpy as np

from raybook.api import put
from raybook.data.context import DataContext
from raybook.data.execution.pickling import dumps_program
from raybook.data.execution.programs import Program
from raybook.data.execution.worker_side import Shipment, run_program

INLINE_BYTES_MAX = 64 * 1024
"""Larger programs go into the store once, instead of along with each task."""


class Shipped:
    """A program, ready to be sent: what goes along with each task, and the ref of what is too large for that."""

    __slots__ = ("large", "shipment")

    def __init__(self, shipment: Shipment, large: Any) -> None:
        self.shipment, self.large = shipment, large


class Launcher:
    """context: what tasks see as the current DataContext."""

    def __init__(self, context: DataContext) -> None:
        self.context = context

    def ship(self, program: Program, name: str) -> Shipped:
        """Pickle a program. TypeError, naming the step, when it cannot be."""
        data = dumps_program((program, self.context), name)
        key = uuid.uuid4().hex
        if len(data) <= INLINE_BYTES_MAX:
            return Shipped(Shipment(key, name, data), None)
        # As an array, which readers see in place; bytes would be copied for each task.
        return Shipped(Shipment(key, name, None), put(np.frombuffer(data, np.uint8)))

    def start(
        self,
        program: Program | Shipped,
        name: str,
        number: int,
        inputs: Sequence[Any],
        options: dict[str, Any] | None = None,
        target_bytes: int | None = None,
    ) -> Any:
        """Start one task; its stream. inputs: refs of blocks, or values."""
        shipped = program if isinstance(program, Shipped) else self.ship(program, name)
        task = run_program.options(name=name, **(options or {}))
        return task.remote(shipped.shipment, shipped.large, number, target_bytes, *inputs)
