"""Context: the one current runtime of this process, and the way from a verb to its engine.

It decides only which engine a call goes to. How one is started is ``init``'s business, which registers itself here so
that the first verb can start it. This is the only module of raybook with mutable state at module level.
Invariants: at most one current engine; a process forked from this one has none, and starts none by accident.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from typing import Any

from raybook.base.errors import NotStartedError
from raybook.engines.engine import Engine

DRIVER = "driver"
WORKER = "worker"
LOCAL = "local"
ARCHIVES = "archives"
"""In ``lasting``: folders that runtime environments send along (``api/archives``)."""


class CurrentRuntime:
    """What this process is connected to. ``cluster`` is set when it was started here; ``mode`` is DRIVER, WORKER or
    LOCAL. ``kernel_id``: which kernel of a Jupyter server this process is; the notebook's extension sets it.
    ``auto_start`` is what the first verb calls when nothing was started. ``changing`` is held by one ``init`` or
    ``shutdown`` at a time: the first verbs of two threads must not start two clusters. ``output`` prints what workers
    print, unless ``routes_output``: a notebook's extension brings it to the cells itself."""

    __slots__ = (
        "auto_start", "changing", "cluster", "code_watcher", "context", "engine", "is_forked", "kernel_id", "lasting",
        "mode", "output", "routes_output", "session",
    )  # fmt: skip

    def __init__(self) -> None:
        self.engine: Engine | None = None
        self.cluster: Any = None
        self.context: Any = None
        self.mode = ""
        self.is_forked = False
        self.kernel_id = ""
        self.output: Any = None
        self.routes_output = False
        self.code_watcher: Any = None
        """Who is told of what this process exports (``api/captures``); None outside notebooks."""
        self.auto_start: Callable[[], Any] | None = None
        self.changing = threading.RLock()
        self.lasting: dict[str, Any] = {}
        """What outlives sessions, by the names of those whose it is."""
        self.session: dict[str, Any] = {}
        """What the libraries keep for as long as the session lasts, by their names."""

    def clear(self) -> None:
        """Forget the engine (it has been shut down)."""
        self.engine = None
        self.cluster = None
        self.context = None
        self.mode = ""
        self.output = None
        self.session = {}

    def forget_in_child(self) -> None:
        """After a fork: sockets, references and pins are the parent's, and so is whoever held the lock."""
        self.changing = threading.RLock()
        if self.engine is not None:
            self.clear()
            self.is_forked = True


current_runtime = CurrentRuntime()
os.register_at_fork(after_in_child=current_runtime.forget_in_child)


def current_engine() -> Engine:
    """The engine, started on first use. RuntimeError in a forked child. Cost: 0.1 µs once started."""
    if current_runtime.engine is not None:
        return current_runtime.engine
    if current_runtime.is_forked:
        raise RuntimeError(
            f"Process {os.getpid()} was forked from one that uses raybook, and cannot use its connection. Nothing was "
            "done. Run the work as a raybook task, start this process with the 'spawn' method, or call "
            "raybook.init(address=...) in it."
        )
    if current_runtime.auto_start is None:
        raise RuntimeError("raybook cannot start itself here. Call raybook.init() first.")
    current_runtime.auto_start()
    return started_engine()


def started_engine() -> Engine:
    """The engine; NotStartedError when there is none."""
    engine = current_runtime.engine
    if engine is None:
        raise NotStartedError("Ray has not been started yet. You can start Ray with 'ray.init()'.")
    return engine
