"""Stay: a ``raybook start`` that lasts as long as the node does (``--block``), or as long as its standard input is open."""

from __future__ import annotations

import os
import select
import signal
import socket
import sys
from collections.abc import Callable

import click

SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


def stay(pid: int, end: Callable[[], None], while_stdin_open: bool = False) -> int:
    """Wait for the end of the node's process, then say so (exit code 1: nobody asked for it); or, told to end by a signal or
    by the end of standard input, end it with ``end`` (code 0)."""
    try:
        pidfd = os.pidfd_open(pid)
    except ProcessLookupError:
        click.echo("The node has ended already.", err=True)
        return 1
    ours, told = socket.socketpair()
    ours.setblocking(False)
    told.setblocking(False)
    earlier = {number: signal.signal(number, lambda *_: None) for number in SIGNALS}
    before = signal.set_wakeup_fd(told.fileno(), warn_on_full_buffer=False)
    try:
        poller = select.poll()
        poller.register(pidfd, select.POLLIN)
        poller.register(ours, select.POLLIN)
        if while_stdin_open:
            poller.register(sys.stdin.fileno(), select.POLLIN | select.POLLHUP)
        while True:
            ready = {descriptor for descriptor, _ in poller.poll()}
            if pidfd in ready:
                click.echo("The node has ended.", err=True)
                return 1
            if ours.fileno() in ready:
                end()
                return 0
            if while_stdin_open and sys.stdin.fileno() in ready and not os.read(sys.stdin.fileno(), 4096):
                end()
                return 0
    finally:
        signal.set_wakeup_fd(before)
        for number, handler in earlier.items():
            signal.signal(number, handler)
        ours.close()
        told.close()
        os.close(pidfd)
