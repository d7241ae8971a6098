"""Node address: where other machines reach this one."""

from __future__ import annotations

from raybook.api import get_runtime_context, is_initialized, nodes

LOOPBACK = "127.0.0.1"


def get_node_ip_address(address: str | None = None) -> str:
    """The address of the node this runs on, as the cluster knows it (one round trip); the loopback address when raybook
    was not started. address: accepted; Ray asks there which of its own addresses is the right one."""
    if not is_initialized():
        return LOOPBACK
    own = get_runtime_context().get_node_id()
    return next((node["NodeManagerAddress"] for node in nodes() if node["NodeID"] == own), LOOPBACK)
