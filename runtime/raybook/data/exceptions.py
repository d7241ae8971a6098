"""Errors of Data."""

from __future__ import annotations

from raybook.exceptions import UserCodeException


class RayDataUserCodeException(UserCodeException):
    """A function that was passed to a dataset has raised. What is raised is also of the class of its own error."""


class SystemException(Exception):
    """Data itself failed: a bug of ours."""


class ExecutionTimeoutError(Exception):
    """An execution took longer than it was allowed to."""


__all__ = ["ExecutionTimeoutError", "RayDataUserCodeException", "SystemException", "UserCodeException"]
