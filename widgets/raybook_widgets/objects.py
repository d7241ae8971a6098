"""Object store: how full it is, and the largest objects in it."""

from __future__ import annotations

from raybook.observe import ObjectRow, View, bytes_pair_text, bytes_text, count_text
from raybook_widgets.markup import element, span

FULL_SHARE = 0.9
"""Above this the store begins to evict and spill soon: the bar turns to the warning colour."""


def render(view: View, rows_max: int) -> str:
    """ "" while the store is empty."""
    total = view.store_total
    if not (total.objects or total.used_bytes):
        return ""
    share = min(1.0, total.used_bytes / total.capacity_bytes) if total.capacity_bytes else 0.0
    fill = "rb-fill-warn" if share > FULL_SHARE else "rb-fill-run"
    told = bytes_pair_text(total.used_bytes, total.capacity_bytes, " of ")
    noun = "object" if total.objects == 1 else "objects"
    head = [
        span("Object store", "rb-title"),
        span(f"{count_text(total.objects)} {noun}", "rb-dim rb-small") if total.objects else "",
        span(f"{told} ({share:.0%})", "rb-small rb-push"),
    ]
    bar = element("i", "", class_=fill, style=f"width:{max(0.4, share * 100):.2f}%")
    largest = element("div", [_largest(item) for item in view.objects[:rows_max]], class_="rb-meters rb-small")
    return (
        element("div", head, class_="rb-head")
        + element("div", bar, class_="rb-bar", role="img", aria_label=f"object store: {told}", title=told)
        + (largest if view.objects else "")
    )


def _largest(item: ObjectRow) -> str:
    name = item.name or item.object_id[:8]
    title = f"object {item.object_id}, owner pid {item.owner_pid}"
    return element(
        "span",
        [span(name, "rb-code rb-cut"), " ", span(bytes_text(item.size_bytes), "rb-dim")],
        class_="rb-meter",
        title=title,
    )
