"""Stay: a ``raybook start`` that lasts as long as the node does (``--block``), or as long as its standard input is open.

Signals are kept from before the start on: one that comes while the node starts ends it when it is there, and leaves no node
that nobody holds.
"""

from __future__ import annotations

import os
import select
import signal
import socket
import sys
from collections.abc import Callable
from typing import Any

import click

SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


class Told:
    """A context manager. is_wanted: keep signals, to be heard by ``stay``; else they do what they always do."""

    def __init__(self, is_wanted: bool) -> None:
        self._is_wanted = is_wanted
        self._earlier: dict[int, Any] = {}

    def __enter__(self) -> Told:
        self._ours, self._theirs = socket.socketpair()
        self._ours.setblocking(False)
        self._theirs.setblocking(False)
        if self._is_wanted:
            self._earlier = {number: signal.signal(number, lambda *_: None) for number in SIGNALS}
            self._before = signal.set_wakeup_fd(self._theirs.fileno(), warn_on_full_buffer=False)
        return self

    def __exit__(self, *_: object) -> None:
        if self._is_wanted:
            signal.set_wakeup_fd(self._before)
            for number, handler in self._earlier.items():
                signal.signal(number, handler)
        self._ours.close()
        self._theirs.close()

    def stay(self, pid: int, end: Callable[[], None], while_stdin_open: bool = False) -> int:
        """Wait for the end of the node's process, then say so (exit code 1: nobody asked for it); or, told to end by a
        signal or by the end of standard input, end it with ``end`` (code 0)."""
        try:
            pidfd = os.pidfd_open(pid)
        except ProcessLookupError:
            click.echo("The node has ended.", err=True)
            return 1
        try:
            poller = select.poll()
            poller.register(pidfd, select.POLLIN)
            poller.register(self._ours, select.POLLIN)
            if while_stdin_open:
                poller.register(sys.stdin.fileno(), select.POLLIN | select.POLLHUP)
            while True:
                ready = {descriptor for descriptor, _ in poller.poll()}
                if pidfd in ready:
                    click.echo("The node has ended.", err=True)
                    return 1
                has_input = while_stdin_open and sys.stdin.fileno() in ready
                if self._ours.fileno() in ready or (has_input and not os.read(sys.stdin.fileno(), 4096)):
                    end()
                    return 0
        finally:
            os.close(pidfd)
