"""Optional libraries of loggers: found when a callback is made, with an error that says what to install."""

from __future__ import annotations

from importlib import import_module
from typing import Any


class MissingLibraryError(ImportError, RuntimeError):
    """A logger's library is not installed. Of both classes, since Ray raises one or the other."""


def library(module: str, package: str, wanted_by: str) -> Any:
    """Return the module. Raises MissingLibraryError if it is not installed; an error inside of it stays its own."""
    try:
        return import_module(module)
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] != module.partition(".")[0]:
            raise
        raise MissingLibraryError(
            f"{wanted_by} needs the package {package}, which is not installed: pip install {package}. Nothing was "
            "started; every trial's folder has its reports as result.json and progress.csv without it."
        ) from error
