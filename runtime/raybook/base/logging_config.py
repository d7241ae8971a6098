"""Logging config: how Python's logging looks in a driver and its workers: ``init(logging_config=LoggingConfig(...))``.

Source: the names of Ray's ``LoggingConfig``. Builds formatters and settings; installing them is the shells' work.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any

ENCODINGS = ("TEXT", "JSON")
TEXT_FORMAT = "%(asctime)s\t%(levelname)s %(filename)s:%(lineno)s -- %(message)s"
_STANDARD = frozenset(logging.makeLogRecord({}).__dict__) | {"message", "asctime"}


@dataclass
class LoggingConfig:
    """encoding: "TEXT" or "JSON" (one object a line, with the ids of job, worker, node, actor and task). log_level: of the
    root logger. additional_log_standard_attrs: names of LogRecord's attributes that every line shows as well."""

    encoding: str = "TEXT"
    log_level: str = "INFO"
    additional_log_standard_attrs: list = field(default_factory=list)

    def __post_init__(self) -> None:
        """ValueError for a value that cannot be."""
        if self.encoding not in ENCODINGS:
            raise ValueError(f"Invalid encoding type: {self.encoding}. Valid encoding types are: {list(ENCODINGS)}")
        if not isinstance(logging.getLevelName(self.log_level), int):
            raise ValueError(f"Invalid log level: {self.log_level!r}. Use a name such as 'INFO' or 'DEBUG'.")
        for name in self.additional_log_standard_attrs:
            if name not in _STANDARD:
                raise ValueError(f"Unknown python logging standard attribute: {name}")

    def to_dict(self) -> dict[str, Any]:
        """Its fields."""
        return asdict(self)

    @classmethod
    def from_dict(cls, d: dict[str, Any]) -> LoggingConfig:
        """What ``to_dict`` gave."""
        return cls(**d)

    def to_json(self) -> str:
        """For processes that are told."""
        return json.dumps(asdict(self))

    @staticmethod
    def from_json(text: str) -> LoggingConfig:
        """What ``to_json`` wrote."""
        return LoggingConfig(**json.loads(text))

    def install(self, ids: Callable[[], dict[str, str]]) -> None:
        """Make the root logger write like this to stderr. ids: who speaks, asked for each line."""
        handler = logging.StreamHandler()
        handler.setFormatter(_Json(self, ids) if self.encoding == "JSON" else _Text(self, ids))
        root = logging.getLogger()
        root.handlers[:] = [handler]
        root.setLevel(self.log_level)


class _Text(logging.Formatter):
    def __init__(self, config: LoggingConfig, ids: Callable[[], dict[str, str]]) -> None:
        super().__init__(TEXT_FORMAT)
        self._config = config
        self._ids = ids

    def format(self, record: logging.LogRecord) -> str:
        extra = {name: getattr(record, name, "") for name in self._config.additional_log_standard_attrs}
        said = {key: value for key, value in record.__dict__.items() if key not in _STANDARD}
        pairs = " ".join(f"{key}={value}" for key, value in {**self._ids(), **extra, **said}.items())
        return f"{super().format(record)} {pairs}".rstrip()


class _Json(logging.Formatter):
    def __init__(self, config: LoggingConfig, ids: Callable[[], dict[str, str]]) -> None:
        super().__init__()
        self._config = config
        self._ids = ids

    def format(self, record: logging.LogRecord) -> str:
        row: dict[str, Any] = {
            "asctime": self.formatTime(record),
            "levelname": record.levelname,
            "message": record.getMessage(),
            "filename": record.filename,
            "lineno": record.lineno,
        }
        row |= {name: getattr(record, name, None) for name in self._config.additional_log_standard_attrs}
        row |= {key: value for key, value in record.__dict__.items() if key not in _STANDARD}
        row |= self._ids()
        row["timestamp_ns"] = int(record.created * 1e9)
        if record.exc_info:
            row["exc_text"] = self.formatException(record.exc_info)
        return json.dumps(row, default=str)
