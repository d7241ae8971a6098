"""Ending a cluster whose GCS does not listen: its head is told by a signal, and no other process that has its number now."""

from __future__ import annotations

import os
import select
import signal

from raybook.io.cluster_registry import ClusterRecord
from raybook.io.process import is_alive

PATIENCE_S = 3.0


def end_head(record: ClusterRecord) -> bool:
    """SIGTERM, then SIGKILL, to the head; whether it is gone. PermissionError when it is another user's. Blocks for six
    seconds at most."""
    try:
        pidfd = os.pidfd_open(record.head_pid)
    except ProcessLookupError:
        return True
    try:
        poller = select.poll()
        poller.register(pidfd, select.POLLIN)
        for signum in (signal.SIGTERM, signal.SIGKILL):
            # The descriptor names one process for ever; only now is it certain that the record means this one.
            if not is_alive(record.head_pid, record.head_start_time):
                return True
            signal.pidfd_send_signal(pidfd, signum)
            if poller.poll(PATIENCE_S * 1_000):
                return True
        return False
    finally:
        os.close(pidfd)
