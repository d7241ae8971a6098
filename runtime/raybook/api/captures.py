"""Captures: what functions and classes of the user drag along, and whoever wants to know when one is sent.

A notebook watches: it says which variable makes a function large, and which version of a cell's code runs where.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from raybook.api.context import current_runtime, started_engine
from raybook.protocol.captures import Capture, captures_of, functions_of, plain, variables_of

__all__ = [
    "Capture",
    "CodeWatcher",
    "captures_of",
    "functions_of",
    "plain",
    "submitted_count",
    "variables_of",
    "watch_code",
]


class CodeWatcher(Protocol):
    """Told on the thread that submits; what it raises is raised there."""

    def exported(self, target: Callable[..., Any], key: bytes, size: int) -> None:
        """A function or class was pickled for this session. key: of its bytes; size: how many."""

    def created(self, key: bytes, actor_id: bytes) -> None:
        """An actor was made of an exported class."""


def watch_code(watcher: CodeWatcher | None) -> None:
    """Tell ``watcher`` of everything that this process exports from now on; None: nobody."""
    current_runtime.code_watcher = watcher


def submitted_count(key: bytes) -> int:
    """How many tasks of an exported function this process has submitted; 0 when that is not counted here. NotStartedError
    when nothing was started."""
    return started_engine().own_tasks.submitted(key)
