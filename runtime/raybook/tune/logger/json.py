"""The JSON logger under the module path that Ray's users import it from."""

from __future__ import annotations

from raybook.tune.logger.logger import LoggerCallback


class JsonLoggerCallback(LoggerCallback):
    """Every trial's folder has `result.json` and `params.json`, with or without this callback: code that asks for it runs
    unchanged."""


__all__ = ["JsonLoggerCallback"]
