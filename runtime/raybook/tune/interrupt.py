"""Interrupts during a sweep: the first one asks the controller to end, a second one interrupts as usual.

Knows signals; does not know trials. Without this an interrupt could fall between two updates of the trial table.
Invariant: the previous handler is back when the block is left.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType


@contextmanager
def graceful_interrupt(request_stop: Callable[[str], None]) -> Iterator[None]:
    """Turn the first SIGINT within the block into request_stop(reason). Only the main thread can do that."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    previous = signal.getsignal(signal.SIGINT)

    def on_interrupt(number: int, frame: FrameType | None) -> None:
        signal.signal(signal.SIGINT, previous)
        request_stop("interrupted")

    signal.signal(signal.SIGINT, on_interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, previous)
