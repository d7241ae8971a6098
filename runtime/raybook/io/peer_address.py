"""Peer addresses: where a driver or worker listens for others. A Unix socket for its own node; a TCP port too, for those of
other nodes, where the session folder says that there may be some.

An address of both is ``unix:/folder/id.s|tcp:host:port``. Who connects takes the Unix socket if it lies in its own session
folder: the same path on another machine is another file.
"""

from __future__ import annotations

import contextlib
import os
import socket
from pathlib import Path

from raybook.io.transport import listen

HOST_FILE = "peer_host"
ALTERNATIVE = "|"


def write_peer_host(session_dir: str, host: str) -> None:
    """Say, before the node's processes start, at which of the machine's addresses they shall listen for other nodes."""
    Path(session_dir, HOST_FILE).write_text(host)


def home_of(address: str) -> str:
    """What the addresses of all processes of one node have in common, and those of no other node's: the session folder,
    and the host if others can reach it. Cost: 1 µs."""
    local, _, distant = address.partition(ALTERNATIVE)
    return node_home(local, distant.removeprefix("tcp:").rpartition(":")[0])


def node_home(socket_address: str, host: str) -> str:
    """The same of a node, by the Unix socket of its raylet."""
    return f"{os.path.dirname(socket_address.removeprefix('unix:'))}{ALTERNATIVE}{host}"


def listen_for_peers(session_dir: str, name: str) -> tuple[str, list[socket.socket]]:
    """Listen under this name; the address to tell others, and the sockets. OSError. Cost: 0.1 ms."""
    address = f"unix:{session_dir}/{name}.s"
    sockets = [listen(address)]
    try:
        with contextlib.suppress(FileNotFoundError):
            with open(f"{session_dir}/{HOST_FILE}", encoding="ascii") as file:
                host = file.read()
            sockets.append(listen(f"tcp:{host}:0"))
            address += f"{ALTERNATIVE}tcp:{host}:{sockets[1].getsockname()[1]}"
    except BaseException:
        close_listeners(address, sockets)
        raise
    return address, sockets


def close_listeners(address: str, sockets: list[socket.socket]) -> None:
    """Stop listening; the Unix socket's file goes."""
    for each in sockets:
        each.close()
    with contextlib.suppress(FileNotFoundError):
        os.unlink(address.split(ALTERNATIVE)[0].removeprefix("unix:"))


def session_of(address: str) -> str:
    """The session folder of a process that listens there."""
    return os.path.dirname(address.split(ALTERNATIVE)[0].removeprefix("unix:"))


def nearest(address: str, own_address: str) -> str:
    """Which of a process's addresses to use from a process that listens at ``own_address``. Cost: 0.2 µs, 1 µs for a
    process with two."""
    if ALTERNATIVE not in address:
        return address
    local, distant = address.split(ALTERNATIVE, 1)
    is_here = os.path.dirname(local) == os.path.dirname(own_address.split(ALTERNATIVE)[0])
    return local if is_here else distant


def own_address_towards(host: str, port: int) -> str:
    """Which of this machine's addresses the way to ``host`` begins at. No packet is sent. OSError when there is no way."""
    (family, _, _, _, target), *_ = socket.getaddrinfo(host, port, type=socket.SOCK_DGRAM)
    with socket.socket(family, socket.SOCK_DGRAM) as probe:
        probe.connect(target)
        return str(probe.getsockname()[0])
