"""Live panels under a cell. Reading order: render (what a view looks like) → base (one panel) → hub (their thread).

    import raybook_widgets
    raybook_widgets.watch()                    # everything this cluster has to show
    raybook_widgets.watch("tasks", "tune")     # some of it

Panels move while the cell blocks, at most four times a second. When the cluster ends they become plain HTML, so that a
saved notebook is readable without a kernel.
"""

from __future__ import annotations

from IPython.core.getipython import get_ipython

from raybook_widgets.base import Panel
from raybook_widgets.channel import Channel
from raybook_widgets.hub import Hub, close_hub, hub_of
from raybook_widgets.preferences import Preferences, read_preferences
from raybook_widgets.render import SECTIONS, render_document, render_section, render_text

__all__ = [
    "SECTIONS",
    "Channel",
    "Hub",
    "Panel",
    "Preferences",
    "close_hub",
    "hub_of",
    "read_preferences",
    "render_document",
    "render_section",
    "render_text",
    "watch",
]


def watch(*panels: str) -> None:
    """Show live panels under the running cell: any of "cluster", "tasks", "actors", "objects", "tune"; all without
    an argument. Raises ValueError for another name and RuntimeError outside IPython."""
    unknown = [name for name in panels if name not in SECTIONS]
    if unknown:
        raise ValueError(f"There is no panel {unknown[0]!r}. Panels are: {', '.join(SECTIONS)}.")
    shell = get_ipython()
    if shell is None:
        raise RuntimeError("raybook_widgets.watch() shows panels in a notebook; there is no IPython here.")
    hub = hub_of(shell)
    if hub.feed is None and hub.find_feed is not None:
        hub.find_feed()
    hub.show(panels or SECTIONS)
