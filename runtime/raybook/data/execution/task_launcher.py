"""Launcher: starts tasks of one execution: pickles each program once, and knows which options tasks get.

A program that cannot be pickled fails here, on the driver, before any task of its operator has run.
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from typing import Any

from raybook.api import put
from raybook.data.context import DataContext
from raybook.data.execution.programs import Program
from raybook.data.execution.worker_side import Shipment, run_program


class Launcher:
    """context: what tasks see as the current DataContext."""

    def __init__(self, context: DataContext) -> None:
        self.context = context

    def ship(self, program: Program, name: str) -> Shipment:
        """Pickle a program. TypeError, naming the step, when it cannot be."""
        try:
            ref = put((program, self.context))
        except TypeError as error:
            raise TypeError(
                f"What {name} runs cannot be sent to workers: {error} Nothing has run. A function must not hold locks, "
                "files or connections; open them inside it, or in the __init__ of a callable class."
            ) from error
        return Shipment(uuid.uuid4().hex, [ref], name)

    def start(
        self,
        program: Program | Shipment,
        name: str,
        number: int,
        inputs: Sequence[Any],
        options: dict[str, Any] | None = None,
        target_bytes: int | None = None,
    ) -> Any:
        """Start one task; its stream. inputs: refs of blocks, or values."""
        shipment = program if isinstance(program, Shipment) else self.ship(program, name)
        task = run_program.options(name=name, **(options or {}))
        return task.remote(shipment, number, target_bytes, *inputs)
