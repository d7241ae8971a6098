"""Errors of the state API."""

from __future__ import annotations

from raybook.exceptions import RayError


class RayStateApiException(RayError):
    """What was asked for cannot be told, or not whole."""
