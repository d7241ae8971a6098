"""Utils: what Ray has under this name for deployments."""

from __future__ import annotations

from typing import Any


def get_trace_context() -> Any:
    """The OpenTelemetry context of the running request. Serve here makes no spans of its own: always None, which
    OpenTelemetry takes for "no parent"."""
    return None
