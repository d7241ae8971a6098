"""Cells: when each of the last cells ran, so that what was submitted can be told by cell. Pure."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

CELLS_KEPT = 200


@dataclass
class Cell:
    """number: of ``In[number]``. Times: seconds since the epoch; ended_s is infinite while it runs."""

    number: int
    started_s: float
    ended_s: float = float("inf")

    @property
    def name(self) -> str:
        return f"In[{self.number}]"


class Cells:
    """The last cells of one kernel."""

    def __init__(self) -> None:
        self._cells: deque[Cell] = deque(maxlen=CELLS_KEPT)

    def begin(self, number: int, now_s: float) -> None:
        self._cells.append(Cell(number, now_s))

    def end(self, now_s: float) -> Cell | None:
        """The cell that ran is over; it is returned, None when none ran."""
        if not self._cells or self._cells[-1].ended_s != float("inf"):
            return None
        self._cells[-1].ended_s = now_s
        return self._cells[-1]

    def newest_first(self) -> list[Cell]:
        """The running one first, if there is one."""
        return list(reversed(self._cells))
