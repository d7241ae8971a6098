"""From a view to markup: a section by its name, within a message's budget, and whole documents for saved notebooks.

Pure. Invariants: a section's root has class ``raybook-panel`` and ``data-panel``; no section is larger than the budget;
the same view gives the same markup.
"""

from __future__ import annotations

from collections.abc import Callable

from raybook.observe import View, view_text
from raybook_widgets import actors, cluster, objects, tasks, tune
from raybook_widgets.markup import element, message_bytes
from raybook_widgets.style import STYLE_ELEMENT

MESSAGE_BYTES_MAX = 30 * 1024
"""Of markup; with the envelope a message stays below 32 KiB (NOTEBOOK.md §4.2)."""
ROWS_TRIED = (64, 32, 16, 8, 4, 2, 1)

RENDERERS: dict[str, Callable[[View, int], str]] = {
    "cluster": cluster.render,
    "tasks": tasks.render,
    "actors": actors.render,
    "objects": objects.render,
    "tune": tune.render,
}
SECTIONS = tuple(RENDERERS)
"""In the order in which a cluster panel stacks them."""


def render_section(section: str, view: View, bytes_max: int = MESSAGE_BYTES_MAX) -> str:
    """One section's markup, with as many rows as fit into the budget; "" when it has nothing to show. Raises KeyError
    for an unknown section. Cost: about 0.5 ms for 20 trials."""
    renderer = RENDERERS[section]
    for rows_max in ROWS_TRIED:
        body = renderer(view, rows_max)
        if not body:
            return ""
        markup = element("div", body, class_="raybook-panel", data_panel=section)
        if message_bytes(markup) <= bytes_max:
            return markup
    note = "This panel's names are too long to be shown."
    return element("div", note, class_="raybook-panel", data_panel=section)


def render_document(view: View, sections: tuple[str, ...]) -> str:
    """The sections with their style in one card: what a saved notebook keeps. Readable without the style, too."""
    body = "".join(render_section(section, view) for section in sections)
    return STYLE_ELEMENT + element("div", body, class_="raybook-card")


def render_text(view: View, sections: tuple[str, ...]) -> str:
    """The same numbers as plain text."""
    return view_text(view, sections)
