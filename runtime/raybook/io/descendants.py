"""Ending a process tree: kill every descendant, adopt what they leave, and reap until nothing is left."""

from __future__ import annotations

import os
import select
import signal
import time
from collections.abc import Iterable

from raybook.io.process import descendants


def end_descendants(timeout_s: float, spare: Iterable[int] = ()) -> bool:
    """SIGKILL and reap all descendants of this process, which must be a subreaper. True when none is left.

    Repeats, because a process may fork between being listed and being killed. Cost: one /proc read per process and
    round; two rounds are the rule.
    """
    spared = frozenset(spare)
    deadline = time.monotonic() + timeout_s
    while True:
        found = [pid for pid in descendants(os.getpid()) if pid not in spared]
        for pid in found:
            _kill(pid)
        _reap()
        left = [pid for pid in descendants(os.getpid()) if pid not in spared]
        if not left:
            return True
        if time.monotonic() >= deadline:
            return False
        _await_end(left[0], deadline - time.monotonic())


def _kill(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        pass


def _reap() -> None:
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        pass


def _await_end(pid: int, timeout_s: float) -> None:
    """Block until one process has ended, or for 20 ms: it may end as a zombie of a parent that is dying itself."""
    try:
        pidfd = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        poller = select.poll()
        poller.register(pidfd, select.POLLIN)
        poller.poll(min(timeout_s, 0.02) * 1000)
    finally:
        os.close(pidfd)
