"""Interrupts: the first one ends the wait and leaves the work; a second one soon after cancels what the cell submitted.

A cell that is interrupted has ended before the second interrupt comes, and an idle kernel ignores SIGINT. ipykernel puts
back, after each cell, the handler that was there before it (``saved_sigint_handler``); ours is put there. Where a kernel
has no such attribute, the second interrupt does nothing and ``%ray_cancel`` remains.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from raybook.api.own_tasks import UnfinishedTask, cancel_tasks, unfinished_tasks
from raybook_kernel.cells import Cell

SECOND_WITHIN_S = 2.0


class Interrupts:
    """One kernel's. tell: shows a line under a cell, given its text. is_connected: whether there is a cluster to ask."""

    def __init__(self, tell: Callable[[str], None], is_connected: Callable[[], bool]) -> None:
        self._tell = tell
        self._is_connected = is_connected
        self._until_s = 0.0
        self._cell: Cell | None = None

    def watch(self, shell: Any) -> None:
        """Take a kernel's idle interrupts from now on. Main thread, inside a cell."""
        kernel = getattr(shell, "kernel", None)
        if kernel is not None and hasattr(kernel, "saved_sigint_handler"):
            kernel.saved_sigint_handler = self._on_idle_interrupt

    def cell_interrupted(self, cell: Cell) -> None:
        """A cell has ended by an interrupt: say what goes on without it."""
        if not self._is_connected():
            return
        tasks = unfinished_tasks(cell.started_s, cell.ended_s)
        if not tasks:
            return
        self._cell = cell
        self._until_s = time.monotonic() + SECOND_WITHIN_S
        self._tell(
            f"The wait is over, the work goes on: {describe(tasks)} of {cell.name} still run or wait. Interrupt again "
            f"within {SECOND_WITHIN_S:g} s, or type `%ray_cancel`, to cancel them."
        )

    def _on_idle_interrupt(self, number: int, frame: Any) -> None:
        """SIGINT while no cell runs."""
        cell, self._cell = self._cell, None
        if cell is None or time.monotonic() > self._until_s or not self._is_connected():
            return
        count = cancel_tasks(unfinished_tasks(cell.started_s, cell.ended_s))
        self._tell(f"Cancelled {count:,} task{'' if count == 1 else 's'} of {cell.name}.")


def describe(tasks: list[UnfinishedTask]) -> str:
    """ "12 `train` and 3 `load`"; the most frequent first, three names at most."""
    counts: dict[str, int] = {}
    for task in tasks:
        counts[task.name] = counts.get(task.name, 0) + 1
    ranked = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    parts = [f"{count:,} `{name}`" for name, count in ranked[:3]]
    rest = sum(count for _, count in ranked[3:])
    parts += [f"{rest:,} others"] if rest else []
    return parts[0] if len(parts) == 1 else ", ".join(parts[:-1]) + " and " + parts[-1]
