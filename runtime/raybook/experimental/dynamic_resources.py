"""set_resource: what Ray had for changing a node's resources while it runs. Ray refuses it, and so do we."""

from __future__ import annotations

from typing import NoReturn


def set_resource(resource_name: str, capacity: float, node_id: str | None = None) -> NoReturn:
    """Always DeprecationWarning, as in Ray."""
    raise DeprecationWarning(
        "Dynamic custom resources are deprecated. Use placement groups, or give a node its resources when it starts: "
        "raybook.init(resources={...}), raybook start --resources '{...}'."
    )
