"""``ray._private.services``: the one function of it that users' code reaches for."""

from raybook.util.node_address import get_node_ip_address

__all__ = ["get_node_ip_address"]
