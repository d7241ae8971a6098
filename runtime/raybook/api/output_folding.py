"""Output folding: the same line from many workers is shown once, and then counted.

Pure: lines and the time in, text out. The first line of its kind is shown at once, always. The same words from other
workers within ``WINDOW_S`` are counted, and the count is told when the window ends. What one worker says twice is shown
twice: a loop that prints is not a cluster that repeats itself. Source: RAY.md behaviour 62; unlike Ray, lines that
differ in a number are different lines.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from raybook.protocol.messages.output import WorkerLine

WINDOW_S = 5.0
KINDS_MAX = 2_000
"""Kinds of lines remembered at once; the oldest is told and forgotten beyond that."""

Printed = tuple[str, str]
"""(source "out" or "err", text with its LF)."""


@dataclass(slots=True)
class _Kind:
    since: float
    last: WorkerLine
    sources: dict[tuple[str, int], None] = field(default_factory=dict)
    count: int = 0


class OutputFolding:
    """node: hex id of the node whose lines need no address. folds: False shows every line. never: a pattern of lines
    that are shown each time; hidden: of lines that are not shown at all ("": of none)."""

    def __init__(self, node: str, folds: bool = True, never: str = "", hidden: str = "") -> None:
        self._node = node
        self._folds = folds
        self._never = re.compile(never) if never else None
        self._hidden = re.compile(hidden) if hidden else None
        self._kinds: dict[tuple[str, str, str], _Kind] = {}

    def show(self, lines: list[WorkerLine], now: float) -> list[Printed]:
        """What to print of these lines, in their order; ends windows that are over. now: seconds, any origin."""
        shown = self.elapse(now)
        for line in lines:
            if self._hidden is not None and self._hidden.search(line.line):
                continue
            if self._never is not None and self._never.search(line.line):
                shown.append(self._print(line))
                continue
            kind = self._kinds.get((line.source, line.name, line.line)) if self._folds else None
            source = (line.node, line.pid)
            if kind is None:
                shown.append(self._print(line))
                if self._folds and line.line.strip():
                    self._begin(line, source, now, shown)
                continue
            kind.sources[source] = None
            if len(kind.sources) > 1:
                kind.count += 1
                kind.last = line
            else:
                shown.append(self._print(line))
        return shown

    def elapse(self, now: float) -> list[Printed]:
        """Tell the counts of windows that are over."""
        shown: list[Printed] = []
        while self._kinds:
            key, kind = next(iter(self._kinds.items()))
            if now - kind.since < WINDOW_S:
                break
            del self._kinds[key]
            if kind.count:
                self._tell(kind, shown)
                # It goes on being said: the next window begins folded.
                kind.since, kind.count = now, 0
                self._kinds[key] = kind
        return shown

    def next_deadline(self) -> float | None:
        """When to call ``elapse``, if nothing comes before; None when nothing is counted."""
        return min((kind.since + WINDOW_S for kind in self._kinds.values() if kind.count), default=None)

    def finish(self) -> list[Printed]:
        """The counts that have not been told."""
        shown: list[Printed] = []
        for kind in self._kinds.values():
            self._tell(kind, shown)
        self._kinds.clear()
        return shown

    def _begin(self, line: WorkerLine, source: tuple[str, int], now: float, shown: list[Printed]) -> None:
        if len(self._kinds) >= KINDS_MAX:
            self._tell(self._kinds.pop(next(iter(self._kinds))), shown)
        self._kinds[line.source, line.name, line.line] = _Kind(now, line, {source: None})

    def _tell(self, kind: _Kind, shown: list[Printed]) -> None:
        if kind.count:
            shown.append(self._print(kind.last, f" [repeated {kind.count}x across cluster]"))

    def _print(self, line: WorkerLine, suffix: str = "") -> Printed:
        if line.pid < 0:  # Of the cluster, not of a process.
            return line.source, f"({line.name}) {line.line}{suffix}\n"
        name = f"{line.name} " if line.name else ""
        address = f", ip={line.ip}" if line.node != self._node else ""
        return line.source, f"({name}pid={line.pid}{address}) {line.line}{suffix}\n"
