"""HTTP guard: whom the HTTP servers of a cluster answer. Whoever may submit a job may run anything as this user, and the
page of metrics tells what runs.

    over the Unix socket     whoever can open it: the folder is this user's
    with the cluster's token everybody
    over loopback, without   processes of this user, or root, on this machine: the kernel says whose a connection is
    anybody else             nobody
And no web page: a request whose Origin is another site, or that names a host that this server is not (a name that was made
to point here), is refused whatever it brings. Decisions only; reads the kernel's table of connections when it must.
"""

from __future__ import annotations

import hmac
import ipaddress
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from email.message import Message
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from raybook.protocol.auth import token_of_words

Headers = Mapping[str, str] | Message

LOOPBACK_NAMES = frozenset({"localhost", "127.0.0.1", "::1", "[::1]"})


@dataclass(frozen=True)
class Refusal:
    """An answer instead of the answer."""

    status: int
    text: str


@dataclass(frozen=True)
class Visitor:
    """Who asks. port: of the peer, 0 over a Unix socket. is_local: peer and server have loopback addresses."""

    port: int
    is_local: bool
    own_port: int


def visitor_of(connection: socket.socket, peer: Any) -> Visitor:
    """Who is at the other end. peer: its address as the server was told."""
    if not isinstance(peer, tuple):
        return Visitor(0, True, 0)
    own_host, own_port = connection.getsockname()[:2]
    host, port = peer[:2]
    return Visitor(port, is_loopback(host) and is_loopback(own_host), own_port)


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches that address."""
    if host in LOOPBACK_NAMES:
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def check_visitor(
    visitor: Visitor, headers: Headers, token: str, uid: int, bound_host: str, needs_token: bool = False
) -> Refusal | None:
    """None for who may ask. token: in hexadecimal. needs_token: also on loopback."""
    if visitor.port == 0:
        return None
    host, origin = headers.get("Host", ""), headers.get("Origin", "")
    try:
        name = urlsplit(f"//{host}").hostname or ""
        site = urlsplit(origin).netloc
    except ValueError as error:
        return Refusal(400, f"Host or Origin is no address: {error}.")
    if visitor.is_local and not is_loopback(name) and name != bound_host:
        return Refusal(403, f"This server is not {host!r}. Ask it by its address.")
    if origin and site != host:
        return Refusal(403, f"Pages of {origin} may not ask this server.")
    if headers.get("Sec-Fetch-Site", "none") not in ("none", "same-origin"):
        return Refusal(403, "Pages of other sites may not ask this server.")
    if has_token(headers, token):
        return None
    if visitor.is_local and not needs_token:
        owner = owner_of_connection(visitor.port, visitor.own_port)
        if owner is not None and owner in (uid, 0):
            return None
        return Refusal(401, "Only processes of this cluster's user may ask without its token.")
    return Refusal(401, "The cluster's token is missing or wrong. Send it as `Authorization: Bearer <token>`.")


def has_token(headers: Headers, token: str) -> bool:
    """Whether the request brings the cluster's token, in hexadecimal or as the words that it was made of. Ray's own header
    counts, too: proxies on the way, as Kubernetes' is, keep ``Authorization`` to themselves."""
    for name in ("Authorization", "X-Ray-Authorization"):
        kind, _, given = headers.get(name, "").partition(" ")
        words = given.strip()
        if kind.lower() == "bearer" and words:
            if hmac.compare_digest(words.encode(), token.encode()):
                return True
            if hmac.compare_digest(token_of_words(words).hex(), token):
                return True
    return False


def owner_of_connection(peer_port: int, own_port: int, table: str = "/proc/net") -> int | None:
    """The user id of the process at the other end of a loopback connection; None when the kernel lists none. Cost: one
    read of its table, 0.1 ms for a hundred connections."""
    for name in ("tcp", "tcp6"):
        try:
            lines = (Path(table) / name).read_text().splitlines()[1:]
        except OSError:
            continue
        for line in lines:
            fields = line.split()
            local, remote = (int(address.rpartition(":")[2], 16) for address in fields[1:3])
            if local == peer_port and remote == own_port:
                return int(fields[7])
    return None
