"""The cluster line: name, state, nodes and how much of each resource is in use."""

from __future__ import annotations

from raybook.observe import ResourceRow, View, bytes_pair_text, count_text, resource_text, scaling_lines
from raybook_widgets.markup import element, span, text

HIDDEN_RESOURCES = frozenset({"object_store_memory"})
"""Shown by the objects panel, with what is really in it."""
_STATES = {
    "RUNNING": ("rb-good", "running"),
    "STOPPED": ("rb-dim", "stopped"),
    "LEFT": ("rb-dim", "left, still running"),
    "LOST": ("rb-bad", "connection lost"),
}


def render(view: View, rows_max: int) -> str:
    """Never empty: a stopped cluster says so."""
    tone, word = _STATES.get(view.cluster_state, ("rb-dim", view.cluster_state.lower()))
    parts = [
        span("raybook", "rb-title"),
        span(view.cluster_name, "rb-code rb-dim") if view.cluster_name else "",
        element("span", element("b", word), class_=f"rb-chip {tone}"),
    ]
    nodes = sum(not node.left for node in view.nodes) + view.nodes_hidden
    dead = sum(not node.alive and not node.left for node in view.nodes)
    leaving = sum(node.alive and bool(node.draining) for node in view.nodes)
    meters = [_meter(resource) for resource in view.resources if resource.name not in HIDDEN_RESOURCES][:rows_max]
    if nodes > 1:
        meters.insert(0, span(f"{nodes - dead} nodes", "rb-small"))
    if leaving:
        meters.insert(1, span(f"{leaving} leaving", "rb-small rb-dim"))
    if dead:
        meters.insert(1, span(f"{dead} lost", "rb-small rb-bad"))
    body = element("div", [*parts, element("div", meters, class_="rb-meters rb-push")], class_="rb-head rb-cluster")
    return body + _scaling(view)


def _scaling(view: View) -> str:
    """Below it, how many nodes there may be and why they come and go."""
    lines = [element("div", text(line.strip())) for line in scaling_lines(view)]
    return element("div", lines, class_="rb-small rb-dim rb-scaling") if lines else ""


def _meter(resource: ResourceRow) -> str:
    """ "CPU ▇▇▁ 3/8"."""
    share = min(100.0, 100.0 * resource.used / resource.total) if resource.total else 0.0
    bar = element("i", "", class_="rb-fill-run", style=f"width:{share:.1f}%") if share else ""
    is_bytes = resource.name == "memory"
    words = resource_text(resource)
    figures = (
        bytes_pair_text(resource.used, resource.total)
        if is_bytes
        else f"{count_text(resource.used)}/{count_text(resource.total)}"
    )
    return element(
        "span",
        [
            span("Memory" if is_bytes else resource.name, "rb-dim rb-small"),
            element("span", bar, class_="rb-bar", role="img", aria_label=words),
            span(figures, "rb-small"),
        ],
        class_="rb-meter",
        title=words + " reserved",
    )
