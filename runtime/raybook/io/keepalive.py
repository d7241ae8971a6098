"""Keepalive: how long the kernel waits for the far end of a TCP connection before it says that it is gone.

A host that loses its power or its cable closes nothing: without this, who reads from it waits for ever, and who writes to
it for a quarter of an hour (Linux: ``tcp_retries2``). The kernels ask and answer, so no verdict needs anybody's interpreter:
a process that is stopped or busy still counts as there. Unix sockets need none of it.
"""

from __future__ import annotations

import socket

SILENCE_SHARE = 1.5
"""Of the health check's time-out: the cluster's own verdict, which has a reason, should come first."""
PROBES = 3


def expect_answers(sock: socket.socket, health_timeout_ms: int) -> None:
    """From now on a silence of 1.5 health time-outs (to the second) breaks this connection, also one that is being made.
    Reading it fails with ETIMEDOUT then. Cost: 3 µs, and on an idle connection a packet each third of that time."""
    if sock.family == socket.AF_UNIX:
        return
    silence_ms = round(SILENCE_SHARE * health_timeout_ms)
    pause_s = max(1, silence_ms // (1000 * PROBES))
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, pause_s)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, pause_s)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, PROBES)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, silence_ms)
    # Attempts to connect are repeated after 1, 3, 7, … seconds: n of them are given up after 2 ** (n + 1) - 1.
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_SYNCNT, max(1, (silence_ms // 1000 + 1).bit_length() - 2))
