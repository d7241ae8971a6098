"""Log monitor: reads what workers print. The last lines for crash reports, new lines for whoever watches.

Knows files, not processes' lives. Workers write whole lines to ``<path>.out`` and ``<path>.err``; a line without its
end is left for the next look. Between them stand marks that say who speaks (``protocol/output_marks``).
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable
from dataclasses import dataclass

from raybook.io.log_file import forget_before
from raybook.protocol.output_marks import split_mark, without_marks

STREAMS = (".out", ".err")
TAIL_BYTES = 16 * 1024
READ_BYTES = 64 * 1024
"""One look reads no more than this of one stream, so that a chatty worker delays nobody."""
LAST_LINES_MAX = 10_000
"""Of a worker that is dead and had printed more than anybody reads."""
DRAWN_S = 1.0
"""A progress bar that draws over itself is shown this often, in the state it has then."""
BACKLOG_BYTES_MAX = 32 * 1024 * 1024
"""A worker that prints faster than it is read is read on from the end when it is this far ahead; its file has more."""
FORGET_SHARE = 4
"""Old bytes are given back a quarter of what is kept at a time: 32 MiB."""


@dataclass(slots=True)
class LogLine:
    """One printed line. ``stream``: "out" or "err". ``name``, ``job``: who printed it, "" when that is not known."""

    pid: int
    stream: str
    line: str
    name: str = ""
    job: str = ""
    path: str = ""
    """Of the worker's logs, without the stream's suffix."""


@dataclass(slots=True)
class _Tail:
    path: str
    pid: int
    stream: str
    offset: int = 0
    name: str = ""
    job: str = ""
    drawn: bytes = b""
    """What a progress bar showed when we last looked."""
    drawn_s: float = 0.0
    forgotten: int = 0
    """Where the bytes begin that the file still has."""


def last_lines(path: str, count: int) -> list[str]:
    """The last lines of a file, at most ``count`` of them and 16 KiB; empty when there is none. Cost: one read."""
    try:
        with open(path, "rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - TAIL_BYTES))
            data = file.read()
    except FileNotFoundError:
        return []
    lines = data.splitlines()
    if size > TAIL_BYTES:
        del lines[:1]
    return [line.decode("utf-8", "replace") for line in without_marks(lines)[-count:]]


class LogMonitor:
    """Follows the logs of living workers. bytes_max: what each file keeps, 0 for everything."""

    def __init__(self, bytes_max: int = 0) -> None:
        self._bytes_max = bytes_max
        self._tails: dict[str, _Tail] = {}
        self.behind: dict[str, None] = {}
        """Files of which the last look left something unread."""

    def follow(self, path: str, pid: int) -> None:
        """From the beginning of the worker's life."""
        for suffix in STREAMS:
            self._tails[path + suffix] = _Tail(path + suffix, pid, suffix[1:])

    def forget(self, path: str) -> list[LogLine]:
        """The worker is dead: its last lines, then no more."""
        lines = []
        for suffix in STREAMS:
            tail = self._tails.pop(path + suffix, None)
            self.behind.pop(path + suffix, None)
            while tail is not None:
                read = self._read(tail, ended=True)
                lines += read
                if not read:
                    break
                if len(lines) > LAST_LINES_MAX:
                    lines += self._leave_out(tail)
                    break
        return lines

    def halves(self, job: str) -> list[LogLine]:
        """What lines of this job have so far that were not ended. For a driver that will not be there for the rest."""
        return [line for tail in self._tails.values() if tail.job in ("", job) for line in self._read(tail, ended=True)]

    def leave_out(self) -> list[LogLine]:
        """Whoever waits can wait no longer: what is unread stays so, and each such file says how much that is."""
        lines = [line for path in self.behind for line in self._leave_out(self._tails[path])]
        self.behind.clear()
        return lines

    @staticmethod
    def _leave_out(tail: _Tail) -> list[LogLine]:
        try:
            behind = os.stat(tail.path).st_size - tail.offset
        except FileNotFoundError:
            return []
        tail.offset += behind
        return [_line(tail, f"[raybook left out {behind:,} bytes of output here]")] if behind > 0 else []

    def new_lines(self, paths: Iterable[str] | None = None) -> list[LogLine]:
        """What was printed since the last look, to these files or to all. Cost: one ``stat`` for each, 1 µs, plus what
        is new."""
        self.behind.clear()
        lines = []
        tails = self._tails.values() if paths is None else filter(None, map(self._tails.get, paths))
        for tail in tails:
            lines += self._read(tail, ended=False)
        return lines

    def _read(self, tail: _Tail, ended: bool) -> list[LogLine]:
        try:
            size = os.stat(tail.path).st_size
            if size <= tail.offset:
                return []
            lines = self._skip(tail, size)
            self._bound(tail, size)
            with open(tail.path, "rb") as file:
                file.seek(tail.offset)
                data = file.read(READ_BYTES)
        except FileNotFoundError:
            return []
        whole = data.rfind(b"\n") + 1
        if (ended and tail.offset + len(data) >= size) or (not whole and len(data) == READ_BYTES):
            # The last words of the dead; or a line longer than one look, which is cut rather than never shown.
            whole = len(data)
        if not whole and b"\r" in data:
            return lines + self._drawn(tail, data)
        tail.offset += whole
        if len(data) == READ_BYTES:
            self.behind[tail.path] = None
        texts = data[:whole].split(b"\n")
        if not texts[-1]:
            texts.pop()
        for text in texts:
            line, said = split_mark(text)
            if line or said is None:
                # A progress bar draws over itself: what it showed last counts.
                shown = line.rstrip(b"\r").rpartition(b"\r")[2]
                if shown != tail.drawn or not shown:
                    lines.append(_line(tail, shown.decode("utf-8", "replace")))
                tail.drawn = b""
            if said is not None:
                tail.name, tail.job = said
        return lines

    def _drawn(self, tail: _Tail, data: bytes) -> list[LogLine]:
        """A line that has no end yet and was drawn over: its present state, now and then. What was drawn over is read."""
        now_s = time.monotonic()
        if now_s - tail.drawn_s < DRAWN_S:
            return []
        text = data.rstrip(b"\r")
        before, _, shown = text.rpartition(b"\r")
        tail.offset += len(before)
        shown, said = split_mark(shown)
        if not shown.strip() or said is not None or shown == tail.drawn:
            return []
        tail.drawn, tail.drawn_s = shown, now_s
        return [_line(tail, shown.decode("utf-8", "replace"))]

    def _bound(self, tail: _Tail, size: int) -> None:
        """Give back what is older than the file is to keep, once it has been read."""
        end = min(tail.offset, size - self._bytes_max)
        if self._bytes_max and end - tail.forgotten >= self._bytes_max // FORGET_SHARE:
            tail.forgotten = forget_before(tail.path, tail.forgotten, end)

    def _skip(self, tail: _Tail, size: int) -> list[LogLine]:
        """Leave out what nobody could read any more, and say so."""
        behind = size - tail.offset
        if behind <= BACKLOG_BYTES_MAX:
            return []
        tail.offset = size - READ_BYTES
        kept = f"the last {self._bytes_max:,} bytes of it are" if self._bytes_max else "all of it is"
        text = f"[raybook left out {behind - READ_BYTES:,} bytes of output here; {kept} in {tail.path}]"
        return [_line(tail, text)]


def _line(tail: _Tail, text: str) -> LogLine:
    return LogLine(tail.pid, tail.stream, text, tail.name, tail.job, tail.path.rpartition(".")[0])
