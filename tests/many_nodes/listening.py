"""Who listens where: the sockets at which a cluster's processes can be reached, as the kernel knows them."""

from __future__ import annotations

import contextlib
import os
import socket
from dataclasses import dataclass
from pathlib import Path

from raybook.io.process import descendants
from raybook.protocol.auth import MAGIC

LISTEN = "0A"
ACCEPTS = 0x10000
"""A Unix socket's flag for one that listens."""


@dataclass(frozen=True)
class Door:
    """A listening socket. address: (host, port), or a path."""

    inode: str
    address: tuple[str, int] | str
    pid: int

    def connect(self, timeout_s: float = 5.0) -> socket.socket:
        """A connection of somebody who knows nothing but the address."""
        sock = socket.socket(socket.AF_UNIX if isinstance(self.address, str) else socket.AF_INET)
        sock.settimeout(timeout_s)
        sock.connect(self.address)
        return sock

    def is_framed(self) -> bool:
        """Whether whoever connects is greeted as at a framed socket. Others wait for their visitor to speak."""
        try:
            with self.connect(0.5) as sock:
                return sock.recv(len(MAGIC)) == MAGIC
        except (TimeoutError, ConnectionRefusedError):  # Silence, or it is gone since it was listed.
            return False


def processes_of_tests() -> list[int]:
    """This process and all that it and the clusters it started have begun."""
    return [os.getpid(), *descendants(os.getpid())]


def doors_of(pids: list[int]) -> list[Door]:
    """Every socket at which these processes listen."""
    listening: dict[str, tuple[str, int] | str] = {}
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        fields = line.split()
        if fields[3] == LISTEN:
            host, port = fields[1].split(":")
            listening[fields[9]] = (socket.inet_ntoa(bytes.fromhex(host)[::-1]), int(port, 16))
    for line in Path("/proc/net/tcp6").read_text().splitlines()[1:]:
        fields = line.split()
        if fields[3] == LISTEN:
            # gRPC listens so for loopback too: an address of four bytes in one of sixteen.
            host, port = fields[1].split(":")
            words = [bytes.fromhex(host[n : n + 8])[::-1] for n in range(0, 32, 8)]
            listening[fields[9]] = (_plain(b"".join(words)), int(port, 16))
    for line in Path("/proc/net/unix").read_text().splitlines()[1:]:
        fields = line.split()
        if int(fields[3], 16) & ACCEPTS:
            listening[fields[6]] = fields[7] if len(fields) > 7 else "@"
    doors: dict[str, Door] = {}
    for pid in pids:
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            for entry in os.scandir(f"/proc/{pid}/fd"):
                with contextlib.suppress(FileNotFoundError):
                    target = os.readlink(entry.path)
                    inode = target[8:-1] if target.startswith("socket:[") else ""
                    if inode in listening:
                        doors.setdefault(inode, Door(inode, listening[inode], pid))
    return sorted(doors.values(), key=lambda door: str(door.address))


def _plain(address: bytes) -> str:
    if address[:12] == bytes(10) + b"\xff\xff":
        return socket.inet_ntoa(address[12:])
    return socket.inet_ntop(socket.AF_INET6, address)


def open_files(pids: list[int]) -> dict[int, int]:
    """How many files each of them has open; who is gone is left out."""
    counts = {}
    for pid in pids:
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            counts[pid] = len(os.listdir(f"/proc/{pid}/fd"))
    return counts
