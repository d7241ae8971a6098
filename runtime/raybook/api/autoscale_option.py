"""The option ``autoscale``: how many nodes there may be, as people write it. Text and numbers in, one record out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from raybook.protocol.messages.daemons import AutoscaleBounds

FORMS = '"MIN:MAX", MAX, or a dict with max_nodes and, if you like, min_nodes, node_cpus and idle_timeout_s'


def autoscale_bounds(value: Any) -> AutoscaleBounds | None:
    """None stays None. TypeError for what is none of the forms, ValueError for bounds that make no sense."""
    if value is None:
        return None
    if isinstance(value, str):
        bounds = bounds_of_text(value)
    elif isinstance(value, Mapping):
        bounds = _of_mapping(value)
    elif isinstance(value, int) and not isinstance(value, bool):
        bounds = AutoscaleBounds(0, value)
    else:
        raise TypeError(f"The keyword 'autoscale' takes {FORMS}, got {value!r}.")
    if not 0 <= bounds.min_nodes <= bounds.max_nodes or bounds.max_nodes == 0:
        raise ValueError(
            f"autoscale: {bounds.min_nodes} to {bounds.max_nodes} nodes is no range; 0 <= MIN <= MAX and MAX > 0 is needed."
        )
    if bounds.node_cpus is not None and bounds.node_cpus < 0:
        raise ValueError(f"autoscale: a node cannot have {bounds.node_cpus} CPUs.")
    if bounds.idle_timeout_s < 0:
        raise ValueError(f"autoscale: a node cannot be idle for {bounds.idle_timeout_s} s.")
    return bounds


def bounds_of_text(text: str) -> AutoscaleBounds:
    """ "0:3" or "3". ValueError for anything else."""
    least, colon, most = text.strip().rpartition(":")
    if not most.isdigit() or (colon and not least.isdigit()):
        raise ValueError(f"autoscale takes MIN:MAX nodes, as in 0:3, or MAX alone, got {text!r}.")
    return AutoscaleBounds(int(least or 0), int(most))


def _of_mapping(value: Mapping[str, Any]) -> AutoscaleBounds:
    known = AutoscaleBounds.__struct_fields__
    unknown = [name for name in value if name not in known]
    if unknown or "max_nodes" not in value:
        raise ValueError(f"The keyword 'autoscale' takes {FORMS}, got {dict(value)!r}.")
    for name, amount in value.items():
        is_count = name in ("min_nodes", "max_nodes")
        kinds = (int,) if is_count else (int, float)
        if isinstance(amount, bool) or not isinstance(amount, kinds):
            if not (name == "node_cpus" and amount is None):
                wanted = "a whole number" if is_count else "a number"
                raise TypeError(f"autoscale: {name} must be {wanted}, got {amount!r}.")
    return AutoscaleBounds(**{"min_nodes": 0, **value})
