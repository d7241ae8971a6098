"""Addresses: what a worker tells the others for them to find it."""

from __future__ import annotations

import socket

from raybook.util.node_address import get_node_ip_address


def free_address() -> tuple[str, int]:
    """Return an address of this node that the other workers reach, and a port that is free now."""
    address = get_node_ip_address()
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family) as probe:
        probe.bind(("", 0))
        return address, probe.getsockname()[1]


def joined(address: str, port: int) -> str:
    """Return the two as one text."""
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"
