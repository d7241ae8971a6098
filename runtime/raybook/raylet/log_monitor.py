"""Log monitor: reads what workers print. The last lines for crash reports, new lines for whoever watches.

Knows files, not processes' lives. Workers write whole lines to ``<path>.out`` and ``<path>.err``; a line without its
end is left for the next look.
"""

from __future__ import annotations

import os
from dataclasses import dataclass

STREAMS = (".out", ".err")
TAIL_BYTES = 16 * 1024
READ_BYTES = 64 * 1024
"""One look reads no more than this of one stream, so that a chatty worker delays nobody."""


@dataclass(slots=True)
class LogLine:
    """One printed line. ``stream``: "out" or "err"."""

    pid: int
    stream: str
    line: str


@dataclass(slots=True)
class _Tail:
    path: str
    pid: int
    stream: str
    offset: int = 0


def last_lines(path: str, count: int) -> list[str]:
    """The last lines of a file, at most ``count`` of them and 16 KiB; empty when there is none. Cost: one read."""
    try:
        with open(path, "rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - TAIL_BYTES))
            data = file.read()
    except FileNotFoundError:
        return []
    lines = data.decode("utf-8", "replace").splitlines()
    if size > TAIL_BYTES:
        del lines[:1]
    return lines[-count:]


class LogMonitor:
    """Follows the logs of living workers."""

    def __init__(self) -> None:
        self._tails: dict[str, _Tail] = {}

    def follow(self, path: str, pid: int) -> None:
        """From the beginning of the worker's life."""
        for suffix in STREAMS:
            self._tails[path + suffix] = _Tail(path + suffix, pid, suffix[1:])

    def forget(self, path: str) -> list[LogLine]:
        """The worker is dead: its last lines, then no more."""
        lines = []
        for suffix in STREAMS:
            tail = self._tails.pop(path + suffix, None)
            if tail is not None:
                lines += self._read(tail, ended=True)
        return lines

    def new_lines(self) -> list[LogLine]:
        """What was printed since the last look. Cost: one ``stat`` for each stream, 1 µs, plus what is new."""
        lines = []
        for tail in self._tails.values():
            lines += self._read(tail, ended=False)
        return lines

    def _read(self, tail: _Tail, ended: bool) -> list[LogLine]:
        try:
            if os.stat(tail.path).st_size <= tail.offset:
                return []
            with open(tail.path, "rb") as file:
                file.seek(tail.offset)
                data = file.read(READ_BYTES)
        except FileNotFoundError:
            return []
        whole = len(data) if ended else data.rfind(b"\n") + 1
        if not whole and len(data) == READ_BYTES:
            # A line longer than one look is cut rather than never shown.
            whole = len(data)
        tail.offset += whole
        text = data[:whole].decode("utf-8", "replace")
        return [LogLine(tail.pid, tail.stream, line) for line in text.splitlines()]
