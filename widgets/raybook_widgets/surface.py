"""Surfaces: the three ways a panel can be on a page. Widgets where ipywidgets is installed, HTML replaced in place
where it is not, plain text where nobody watches.

A surface knows how to show sections of markup; it decides nothing about what is in them or when.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from raybook_widgets.style import STYLE_ELEMENT

WIDGET_MIME = "application/vnd.jupyter.widget-view+json"


class Surface(Protocol):
    """One panel on a page."""

    def mime_bundle(self) -> dict[str, Any]:
        """What is added to the panel's text and HTML when it is first displayed."""

    def update(self, section: str, markup: str) -> None:
        """Replace one section: one message."""

    def note_busy(self, busy: bool) -> None:
        """A cell runs, so buttons may have to wait."""

    def close(self) -> None:
        """The panel is final; release what it holds in the kernel."""


class WidgetSurface:
    """One ``ipywidgets.HTML`` for each section, stacked in a card, with a button where there is something to do.
    Raises ImportError when ipywidgets is not installed."""

    def __init__(self, markups: dict[str, str], on_stop: Callable[[], None] | None) -> None:
        import ipywidgets  # Optional: without it panels are HTML.

        self._sections = {section: ipywidgets.HTML(value=markup) for section, markup in markups.items()}
        self._style = ipywidgets.HTML(value=STYLE_ELEMENT, layout=ipywidgets.Layout(display="none"))
        rows: list[Any] = list(self._sections.values())
        self._stop_button = StopButton(on_stop) if on_stop and "cluster" in self._sections else None
        if self._stop_button is not None:
            first = ipywidgets.HBox([rows[0], self._stop_button.widget])
            first.add_class("raybook-bar-row")
            rows[0] = first
        self._box = ipywidgets.VBox([self._style, *rows])
        self._box.add_class("raybook-card")

    def mime_bundle(self) -> dict[str, Any]:
        """The widget, for front ends that know widgets."""
        return {WIDGET_MIME: {"version_major": 2, "version_minor": 0, "model_id": self._box.model_id}}

    def update(self, section: str, markup: str) -> None:
        """One comm message; it leaves at once, also while the main thread is busy."""
        self._sections[section].value = markup

    def note_busy(self, busy: bool) -> None:
        """Say on the button that it may have to wait."""
        if self._stop_button is not None:
            self._stop_button.note_busy(busy)

    def close(self) -> None:
        """Close the models; the page shows the final HTML instead."""
        if self._stop_button is not None:
            self._stop_button.widget.close()
        for widget in (*self._sections.values(), self._style, self._box):
            widget.close()


class StopButton:
    """Stops the cluster on the second click within a few seconds. Best effort: a front end without subshells delivers
    the click only when the cell has ended, and the button says so."""

    IDLE, BUSY, ASKING, STOPPING = "Stop cluster", "Stop (kernel busy)", "Click again to stop", "Stopping…"
    BUSY_HINT = "A cell is running: this click may have to wait until it ends. Interrupt the kernel to be sure."
    IDLE_HINT = "End this cluster with everything that runs on it"

    def __init__(self, on_stop: Callable[[], None]) -> None:
        import ipywidgets

        self._on_stop = on_stop
        self.widget = ipywidgets.Button(description=self.IDLE, tooltip=self.IDLE_HINT)
        self.widget.add_class("raybook-button")
        self.widget.on_click(self._clicked)
        self._route_clicks_by_header()

    def note_busy(self, busy: bool) -> None:
        """Change the hint (one message when it changes)."""
        if self.widget.disabled:
            return
        self.widget.tooltip = self.BUSY_HINT if busy else self.IDLE_HINT
        if self.widget.description != self.ASKING:
            self.widget.description = self.BUSY if busy else self.IDLE
        self._route_clicks_by_header()

    def _clicked(self, button: Any) -> None:
        if button.description != self.ASKING:
            button.description = self.ASKING
            return
        button.description, button.disabled = self.STOPPING, True
        self._on_stop()

    def _route_clicks_by_header(self) -> None:
        """ipykernel 7.4 sends a click to the shell that last published on the comm: the busy main one. Without that
        route it follows the front end's own choice, a subshell that is free (measured: NOTEBOOK.md §4.1)."""
        comm = self.widget.comm
        if getattr(comm, "_reply_subshell_for", None) is not None:
            comm._reply_subshell_for = None


class HtmlSurface:
    """The whole panel as ``text/html``, replaced in place. For kernels without ipywidgets."""

    def __init__(self, markups: dict[str, str], replace: Callable[[str], None]) -> None:
        self._markups = dict(markups)
        self._replace = replace

    def mime_bundle(self) -> dict[str, Any]:
        """Nothing beyond the HTML that every panel carries."""
        return {}

    def update(self, section: str, markup: str) -> None:
        """One update_display_data message with the whole card."""
        self._markups[section] = markup
        self._replace(STYLE_ELEMENT + f'<div class="raybook-card">{"".join(self._markups.values())}</div>')

    def note_busy(self, busy: bool) -> None:
        """No buttons here."""

    def close(self) -> None:
        """Nothing is held."""


class TextSurface:
    """Nothing moves: text at the start, text at the end."""

    def mime_bundle(self) -> dict[str, Any]:
        """Nothing beyond the text."""
        return {}

    def update(self, section: str, markup: str) -> None:
        """Not shown until the end."""

    def note_busy(self, busy: bool) -> None:
        """No buttons here."""

    def close(self) -> None:
        """Nothing is held."""
