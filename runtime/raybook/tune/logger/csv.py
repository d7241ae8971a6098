"""The CSV logger under the module path that Ray's users import it from."""

from __future__ import annotations

from raybook.tune.logger.logger import LoggerCallback


class CSVLoggerCallback(LoggerCallback):
    """Every trial's folder has a `progress.csv`, with or without this callback: code that asks for it runs unchanged."""


__all__ = ["CSVLoggerCallback"]
