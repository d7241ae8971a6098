"""Work repeated while interrupts fall into it at seeded moments, and into nothing else.

An interrupt is a ``KeyboardInterrupt`` wherever it lands, and one that lands between two rounds would end the test that
counts them. The handler therefore looks at the frame it comes into: in the loop around the work it does nothing.
"""

from __future__ import annotations

import random
import signal
import threading
import time
from collections.abc import Callable
from types import FrameType
from typing import NamedTuple

SEED = 20_260


class Interrupted(NamedTuple):
    """How often the work ended by itself, and how often by an interrupt."""

    ended: int
    interrupted: int


def repeat_under_interrupts(work: Callable[[int], object], *, count: int, pause_s_max: float) -> Interrupted:
    """Call ``work(rounds so far)`` in the main thread until ``count`` interrupts were sent, up to ``pause_s_max`` apart."""
    main = threading.main_thread().ident
    assert main is not None and main == threading.get_ident()
    choose = random.Random(SEED)
    over: list[bool] = []  # Not an Event: an interrupt into its method would end the loop, not the work.

    def send() -> None:
        for _ in range(count):
            time.sleep(choose.random() * pause_s_max)
            if over:
                return
            signal.pthread_kill(main, signal.SIGINT)
        over.append(True)

    def interrupt(number: int, frame: FrameType | None) -> None:
        if not closing and (frame is None or frame.f_code not in around):
            raise KeyboardInterrupt

    around = (repeat_under_interrupts.__code__, interrupt.__code__)
    closing = False
    ended = interrupted = 0
    before = signal.signal(signal.SIGINT, interrupt)
    thread = threading.Thread(target=send)
    thread.start()
    try:
        while not over:
            try:
                work(ended)
                ended += 1
            except KeyboardInterrupt:
                interrupted += 1
    finally:
        closing = True
        over.append(True)
        thread.join()
        assert signal.getsignal(signal.SIGINT) is interrupt, "The work left another handler behind."
        signal.signal(signal.SIGINT, before)
    return Interrupted(ended, interrupted)
