"""Shortage: what people are told when memory of a node runs short. Words only."""

from __future__ import annotations

from dataclasses import dataclass

from raybook.io.memory import MemoryUse

USERS_SHOWN = 5
GIB = 1 << 30
MIB = 1 << 20


@dataclass(slots=True, frozen=True)
class User:
    """Who holds memory. pid 0: no process."""

    name: str
    size_bytes: int
    pid: int = 0


def why_ended(pid: int, use: MemoryUse, threshold: float, users: list[User], has_company: bool) -> str:
    """For the error of a worker's task or actor. pid: of the worker."""
    held = sum(user.size_bytes for user in users if user.pid == pid)
    if has_company:
        remedy = (
            "Run fewer at a time (ask for more CPUs, or for memory=, with each), or give each less to hold at a time."
        )
    else:
        remedy = "Nothing else of size runs here: give it less to hold at a time, or a node with more memory."
    return (
        f"memory ran short: {_state(use, threshold)} It held {amount(held)} of its own. {_largest(users)} {remedy} "
        f"{_switch()}"
    )


def why_nobody(use: MemoryUse, threshold: float, users: list[User]) -> str:
    """For drivers: memory is short, and there is no worker to end."""
    return (
        f"Memory runs short: {_state(use, threshold)} No task or actor runs here that could be ended, and drivers never "
        f"are. {_largest(users)} Delete what you do not need (variables, and Out[n] in a notebook), or the kernel may end "
        f"a process. {_switch()}"
    )


def amount(size_bytes: int) -> str:
    """Bytes for people."""
    return f"{size_bytes / GIB:.1f} GiB" if size_bytes >= GIB else f"{size_bytes / MIB:.0f} MiB"


def _state(use: MemoryUse, threshold: float) -> str:
    return (
        f"{amount(use.used_bytes)} of {amount(use.limit_bytes)} ({use.share:.0%}) of {use.whose} are in use, and from "
        f"{threshold:.0%} on raybook makes room."
    )


def _largest(users: list[User]) -> str:
    largest = sorted(users, key=lambda user: -user.size_bytes)[:USERS_SHOWN]
    shown = ", ".join(
        f"{user.name or 'a process'}{f' (pid {user.pid})' * bool(user.pid)} {amount(user.size_bytes)}"
        for user in largest
        if user.size_bytes >= MIB
    )
    return f"The largest users here: {shown}."


def _switch() -> str:
    return "RAYBOOK_MEMORY_USAGE_THRESHOLD moves the limit, RAYBOOK_MEMORY_MONITOR_REFRESH_MS=0 turns this off."
