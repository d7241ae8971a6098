"""Socket ping-pong: the bare limits of this machine, to put the rows of the core table in relation.

Two processes, one Unix socket, length-prefixed pickles of 100 bytes both ways: pinned to one CPU, pinned to two,
unpinned, and pipelined with batched writes; and a memory copy. No engine can answer a synchronous call faster than the
first three, or put faster than the last. Where the scheduler wakes the peer decides between them by a factor of five,
so compare like with like.

Usage: ``python benchmarks/socket_pingpong.py [--seconds 1]``.
"""

from __future__ import annotations

import argparse
import os
import pickle
import socket
import struct
import sys
import time
from collections.abc import Callable

from machine import machine_line, memcpy_gb_per_s

LENGTH = struct.Struct("<I")
PAYLOAD = b"x" * 100
PIPELINE = 256
"""Messages written with one `send` in the pipelined case: 256 × 120 bytes fit a socket buffer."""


def frame(value: object) -> bytes:
    body = pickle.dumps(value, protocol=5)
    return LENGTH.pack(len(body)) + body


class FrameReader:
    """Reads pickled frames from a blocking socket, many with one `recv` where many have arrived."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._buffer = b""

    def read_some(self) -> list[object]:
        """Wait for at least one whole frame and return all that are there; an empty list when the peer has closed."""
        values: list[object] = []
        while not values:
            received = self._connection.recv(1 << 16)
            if not received:
                return []
            self._buffer += received
            offset = 0
            while len(self._buffer) - offset >= LENGTH.size:
                (size,) = LENGTH.unpack_from(self._buffer, offset)
                end = offset + LENGTH.size + size
                if end > len(self._buffer):
                    break
                values.append(pickle.loads(self._buffer[offset + LENGTH.size : end]))
                offset = end
            self._buffer = self._buffer[offset:]
        return values


def echo(connection: socket.socket) -> None:
    """Answer every frame with its value until the peer closes; answers to frames that came together leave together."""
    reader = FrameReader(connection)
    while values := reader.read_some():
        connection.sendall(b"".join(map(frame, values)))


def ping_pong(connection: socket.socket, seconds: float) -> float:
    """Round trips a second, one message in flight."""
    reader = FrameReader(connection)
    done = 0
    begin = time.perf_counter()
    end = begin + seconds
    while (now := time.perf_counter()) < end:
        connection.sendall(frame(PAYLOAD))
        reader.read_some()
        done += 1
    return done / (now - begin)


def pipelined(connection: socket.socket, seconds: float) -> float:
    """Round trips a second, `PIPELINE` messages in flight and written together."""
    reader = FrameReader(connection)
    done = 0
    begin = time.perf_counter()
    end = begin + seconds
    while (now := time.perf_counter()) < end:
        connection.sendall(b"".join(frame(PAYLOAD) for _ in range(PIPELINE)))
        left = PIPELINE
        while left:
            left -= len(reader.read_some())
        done += PIPELINE
    return done / (now - begin)


def with_peer(measure: Callable[[socket.socket], float], cpus: set[int], peer_cpus: set[int]) -> float:
    """Fork an echoing peer onto `peer_cpus`, measure on `cpus`, and leave affinity and processes as they were."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    pid = os.fork()
    if pid == 0:
        try:
            ours.close()
            os.sched_setaffinity(0, peer_cpus)
            echo(theirs)
        finally:
            os._exit(0)
    theirs.close()
    before = os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, cpus)
        return measure(ours)
    finally:
        os.sched_setaffinity(0, before)
        ours.close()
        os.waitpid(pid, 0)


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=1.0, help="time box of each figure (default 1)")
    options = parser.parse_args(arguments)
    print(machine_line())
    every = os.sched_getaffinity(0)
    first, last = {min(every)}, {max(every)}
    cases = [
        ("ping-pong, both on one CPU", ping_pong, first, first),
        ("ping-pong, on two CPUs", ping_pong, first, last),
        ("ping-pong, unpinned", ping_pong, every, every),
        (f"pipelined by {PIPELINE}, unpinned", pipelined, every, every),
    ]
    for title, measure, cpus, peer_cpus in cases:
        if cpus != peer_cpus and len(every) == 1:
            print(f"{title:32} only one CPU here")
            continue
        figure = with_peer(lambda connection, run=measure: run(connection, options.seconds), cpus, peer_cpus)
        print(f"{title:32} {figure:>10,.0f} round trips/s   {1e6 / figure:6.1f} µs")
    print(f"{'memcpy of 400 MB':32} {memcpy_gb_per_s():>10.1f} GB/s")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
