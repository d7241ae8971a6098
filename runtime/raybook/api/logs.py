"""Logs: the files of this node's session, while its cluster lives."""

from __future__ import annotations

from pathlib import Path

from raybook.api.context import started_engine
from raybook.io.session_dir import LOGS


def log_folder() -> Path:
    """Where workers and daemons of this node write. RuntimeError when nothing was started."""
    return Path(started_engine().session_dir) / LOGS
