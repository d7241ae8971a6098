"""Logging and tracing: how Serve's processes log, as users write it. Source: Ray's fields and checks."""

from __future__ import annotations

import logging
from enum import Enum
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, field_validator

_STRICT = ConfigDict(extra="forbid")
RECORD_ATTRIBUTES = frozenset(
    {"name", "msg", "args", "levelname", "levelno", "pathname", "filename", "module", "exc_info", "exc_text", "stack_info",
     "lineno", "funcName", "created", "msecs", "relativeCreated", "thread", "threadName", "processName", "process",
     "message", "asctime", "taskName"}
)  # fmt: skip
"""Of Python's log records."""


class EncodingType(str, Enum):
    """Of log lines."""

    TEXT = "TEXT"
    JSON = "JSON"


class LoggingConfig(BaseModel):
    """How replicas log. encoding: "TEXT" or "JSON"; log_level: Python's, by name or number; enable_access_log: a line for
    each request that failed."""

    model_config = _STRICT

    encoding: str | EncodingType = EncodingType.TEXT
    log_level: int | str = "INFO"
    logs_dir: str | None = None
    enable_access_log: bool = True
    additional_log_standard_attrs: list[str] = Field(default_factory=list)

    @field_validator("encoding")
    @classmethod
    def _check_encoding(cls, value: Any) -> EncodingType:
        if value not in list(EncodingType):
            raise ValueError(
                f"Got '{value}' for encoding. Encoding must be one of {[each.value for each in EncodingType]}."
            )
        return EncodingType(value)

    @field_validator("log_level")
    @classmethod
    def _check_level(cls, value: int | str) -> str:
        known = logging.getLevelNamesMapping() if hasattr(logging, "getLevelNamesMapping") else logging._nameToLevel
        name = logging.getLevelName(value) if isinstance(value, int) else value.upper()
        if name not in known:
            raise ValueError(f'Got "{value}" for log_level. log_level must be one of {list(known)}.')
        return name

    @field_validator("additional_log_standard_attrs")
    @classmethod
    def _check_attributes(cls, value: list[str]) -> list[str]:
        for each in value:
            if each not in RECORD_ATTRIBUTES:
                raise ValueError(
                    f"Unknown attribute '{each}'. Additional log standard attributes must be one of "
                    f"{sorted(RECORD_ATTRIBUTES)}."
                )
        return list(dict.fromkeys(value))

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, LoggingConfig):
            return NotImplemented
        return self._key() == other._key()

    def __hash__(self) -> int:
        return hash(self._key())

    def _key(self) -> tuple[Any, ...]:
        return self.encoding, self.log_level, self.logs_dir, self.enable_access_log


class TracingConfig(BaseModel):
    """Of OpenTelemetry spans: accepted and checked as Ray does; Serve here makes none (``serve.get_trace_context`` is
    None)."""

    model_config = _STRICT

    enabled: bool = False
    exporter_import_path: str = ""
    sampling_ratio: float = 0.01

    @field_validator("sampling_ratio")
    @classmethod
    def _check_ratio(cls, value: float) -> float:
        if not 0.0 <= value <= 1.0:
            raise ValueError(f"sampling_ratio must be between 0.0 and 1.0, got {value}.")
        return value
