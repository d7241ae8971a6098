"""Processes: names that cannot be reused, certain knowledge of death, ends that leave nothing.

A pid alone may belong to somebody else tomorrow; a pid with its start time names one process for ever.
"""

from __future__ import annotations

import ctypes
import os
import resource
import signal

PR_SET_PDEATHSIG = 1
PR_SET_CHILD_SUBREAPER = 36
# Looked up once: in a fork each look-up through ctypes touches fifty pages of its parent's, a quarter of a millisecond.
_prctl = ctypes.CDLL(None, use_errno=True).prctl


def start_time(pid: int) -> int | None:
    """Field 22 of /proc/PID/stat (clock ticks since boot), or None when there is no such process."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            stat = file.read()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return int(stat.rpartition(b")")[2].split()[19])


def is_alive(pid: int, started: int) -> bool:
    """Whether exactly this process still runs (a zombie does not)."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            fields = file.read().rpartition(b")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return False
    return fields[0] not in (b"Z", b"X") and int(fields[19]) == started


def set_death_signal(signum: int = signal.SIGKILL) -> None:
    """Die when the *thread* that started this process ends. Call first thing in a child."""
    _prctl(PR_SET_PDEATHSIG, signum, 0, 0, 0)


def become_subreaper() -> None:
    """Adopt orphaned descendants, so that they can be found and ended."""
    _prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def raise_file_limit(wanted: int = 65_536) -> int:
    """Raise the soft limit of open files as far as the hard one allows: 1,000 actors are 2,000 sockets."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    target = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    if soft < target:
        resource.setrlimit(resource.RLIMIT_NOFILE, (target, hard))
    return max(soft, target)


def descendants(pid: int) -> list[int]:
    """All living descendants of a process, children before grandchildren. Cost: one read per process below it."""
    found: list[int] = []
    queue = [pid]
    while queue:
        parent = queue.pop()
        try:
            for task in os.listdir(f"/proc/{parent}/task"):
                with open(f"/proc/{parent}/task/{task}/children", "rb") as file:
                    children = [int(child) for child in file.read().split()]
                found += children
                queue += children
        except (FileNotFoundError, ProcessLookupError):
            continue
    return found
