"""Completion: hear of a ref that has become ready, without a thread that waits for it."""

from __future__ import annotations

from collections.abc import Callable

from raybook.api import ObjectRef
from raybook.api.object_ref import engine_of


def when_ready(ref: ObjectRef, callback: Callable[[], None]) -> None:
    """Call ``callback`` once, from the runtime's I/O thread, when ``ref`` has its value or failed, or when the session
    ends. It must return at once and may not wait for anything. StaleReferenceError for a ref of another session."""
    engine_of(ref).when_ready(ref, callback)
