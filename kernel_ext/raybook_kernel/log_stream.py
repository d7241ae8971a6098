"""Log stream: what workers print, as text for a cell, without ever flooding it.

Pure: log facts in, text out. A cell has a budget of lines; past it, lines are only counted, and the count is told once
the flood ends. The same line from many workers at once is shown once with "×N". Nothing is lost: the worker logs in the
cluster's session folder have every line. Source: NOTEBOOK.md §2.9, §2.10 (200 lines; the first line is never held
back).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

LINES_PER_CELL_MAX = 200
LINE_LENGTH_MAX = 2_000
"""Longer lines are cut, with a mark: one line of a megabyte is a flood, too."""


class LogStream:
    """The lines of one cell."""

    def __init__(self, lines_max: int = LINES_PER_CELL_MAX) -> None:
        self._lines_max = lines_max
        self._shown = self._folded = self._folded_told = 0

    def render(self, rows: Iterable[Mapping[str, Any]]) -> dict[str, str]:
        """Text by stream name ("stdout", "stderr") for a batch of log rows, in order; {} when there is nothing to
        show."""
        texts: dict[str, list[str]] = {}
        for row, count in _collapsed(rows):
            if self._shown >= self._lines_max:
                self._folded += count
                continue
            self._shown += 1
            stream = "stderr" if "err" in str(row.get("source", "")) else "stdout"
            texts.setdefault(stream, []).append(log_line(row, count))
        return {stream: "".join(lines) for stream, lines in texts.items()}

    def folded_text(self) -> str:
        """How many lines of this cell were only counted; "" when that number has not changed since the last call."""
        if self._folded == self._folded_told:
            return ""
        self._folded_told = self._folded
        return f"… {self._folded:,} more lines from workers are not shown here."


def log_line(row: Mapping[str, Any], count: int = 1) -> str:
    """ "(square pid=4243) hello\\n"; the prefix is Ray's, so that eyes and scripts know it."""
    line = str(row.get("line", "")).rstrip("\n")
    if len(line) > LINE_LENGTH_MAX:
        line = line[:LINE_LENGTH_MAX] + " …"
    repeated = f" ×{count}" if count > 1 else ""
    if row.get("pid", 0) < 0:  # Of the cluster, not of a process.
        return f"({row.get('name', '')}){repeated} {line}\n"
    name = f"{row['name']} " if row.get("name") else ""
    return f"({name}pid={row.get('pid', 0)}){repeated} {line}\n"


def _collapsed(rows: Iterable[Mapping[str, Any]]) -> list[tuple[Mapping[str, Any], int]]:
    """Neighbours that say the same about the same function are one entry with a count."""
    collapsed: list[tuple[Mapping[str, Any], int]] = []
    for row in rows:
        if collapsed:
            last, count = collapsed[-1]
            if last.get("line") == row.get("line") and last.get("name") == row.get("name"):
                collapsed[-1] = (last, count + 1)
                continue
        collapsed.append((row, 1))
    return collapsed
