"""Errors of the state API."""

from __future__ import annotations

from raybook.exceptions import RayError


class RayStateApiException(RayError):
    """What was asked for cannot be told, or not whole."""


class InvalidRequest(RayStateApiException, ValueError):
    """A filter, a field or a limit that cannot be."""


class DataSourceUnavailable(RayStateApiException):
    """Whoever knows does not answer."""


class ServerUnavailable(RayStateApiException):
    """There is no cluster to ask."""
