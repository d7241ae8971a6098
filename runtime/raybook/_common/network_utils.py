"""Addresses as text: joining and splitting host and port, and a port that is free now. Names are Ray's."""

from __future__ import annotations

import ipaddress
import socket


def build_address(host: str, port: int | str) -> str:
    """``host:port``, with an IPv6 host in brackets."""
    return f"[{host}]:{port}" if is_ipv6(host) else f"{host}:{port}"


def parse_address(address: str) -> tuple[str, str] | None:
    """(host, port) of what ``build_address`` makes; None for text without a port."""
    host, colon, port = address.rpartition(":")
    if not colon:
        return None
    if host.startswith("[") and host.endswith("]"):
        return host[1:-1], port
    # More colons without brackets: an IPv6 host alone.
    return None if ":" in host else (host, port)


def is_ipv6(host: str) -> bool:
    """Whether this is the text of an IPv6 address."""
    try:
        return ipaddress.ip_address(host).version == 6
    except ValueError:
        return False


def is_localhost(host: str) -> bool:
    """Whether this names this machine by one of its own names."""
    return host in ("localhost", "127.0.0.1", "::1", "0.0.0.0", "::")


def find_free_port(family: int = socket.AF_INET) -> int:
    """A port that nobody listens at; somebody may, before the caller does."""
    with socket.socket(family, socket.SOCK_STREAM) as listener:
        listener.bind(("", 0))
        return int(listener.getsockname()[1])
