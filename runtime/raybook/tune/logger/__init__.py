"""Loggers: callbacks that write what trials report to other places, under Ray's import paths.

`result.json` and `progress.csv` are written for every trial anyway; the two callbacks of those names only say where.
"""

from raybook.tune.logger.csv import CSVLoggerCallback
from raybook.tune.logger.json import JsonLoggerCallback
from raybook.tune.logger.logger import LoggerCallback, pretty_print
from raybook.tune.logger.tensorboardx import TBXLoggerCallback

__all__ = [
    "CSVLoggerCallback",
    "JsonLoggerCallback",
    "LoggerCallback",
    "TBXLoggerCallback",
    "pretty_print",
]
