"""Surfaces: one panel on a page. The core of the front end where anywidget is, ipywidgets' HTML where only those are,
replaced HTML where neither is, text where nobody watches.

A surface is handed views and sends what changed; it decides nothing about what is in them or when.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from raybook.observe import PanelFilter, PanelStream, View, state_of_view
from raybook_widgets.render import render_section
from raybook_widgets.stop_button import StopButton
from raybook_widgets.style import STYLE_ELEMENT
from raybook_widgets.subject import Subject

WIDGET_MIME = "application/vnd.jupyter.widget-view+json"
STATE_BYTES_MAX = 28 * 1024
"""Of a state message; with its envelope and the odd last row it stays below 32 KiB (NOTEBOOK.md §4.2)."""


class Surface(Protocol):
    """One panel on a page."""

    def mime_bundle(self) -> dict[str, Any]:
        """What is added to the panel's text and HTML when it is first displayed."""

    def update(self, view: View) -> int:
        """Send what changed. Returns how many messages that took."""

    def note_busy(self, busy: bool) -> None:
        """A cell runs, so buttons may have to wait."""

    def close(self) -> None:
        """The panel is final; release what it holds in the kernel."""


class ViewSurface:
    """The front end's core in an anywidget, fed by snapshot and deltas. Raises ImportError when anywidget is not installed
    or this install has no built view. hand_on: lets the panels' thread do something."""

    def __init__(self, subject: Subject, hand_on: Callable[[Callable[[], None]], None]) -> None:
        from raybook_widgets.view_widget import ViewWidget, is_built  # Optional: without it panels are ipywidgets.

        if not is_built():
            raise ImportError("raybook was installed without its built view.")
        self._subject = subject
        self._hand_on = hand_on
        self._wanted = PanelFilter(experiment_id=subject.run_id)
        self._stream = PanelStream("overview", bytes_max=STATE_BYTES_MAX)
        self._last: View | None = None
        self._widget = ViewWidget(self._hear, commands=sorted(subject.commands), **subject.as_traits())

    def mime_bundle(self) -> dict[str, Any]:
        """The widget, for front ends that know widgets."""
        return {WIDGET_MIME: {"version_major": 2, "version_minor": 0, "model_id": self._widget.model_id}}

    def update(self, view: View) -> int:
        """One comm message; it leaves at once, also while the main thread is busy. What does not fit comes next time."""
        self._last = view
        message = self._stream.message_of(state_of_view("overview", view, self._wanted))
        if message is None:
            return 0
        self._widget.tell(message)
        return 1

    def note_busy(self, busy: bool) -> None:
        """The view's buttons find out by themselves."""
        self._widget.route_by_header()

    def close(self) -> None:
        """Close the model; the page shows the final HTML instead."""
        self._widget.close()

    def _hear(self, content: dict[str, Any]) -> None:
        if content.get("op") == "snapshot":
            self._hand_on(self._start_over)
        elif content.get("op") == "command":
            self._hand_on(lambda: self._act(content))

    def _start_over(self) -> None:
        self._stream.start_over()
        if self._last is not None:
            self.update(self._last)

    def _act(self, content: dict[str, Any]) -> None:
        command = self._subject.commands.get(str(content.get("name")))
        ok, said = False, "This kernel cannot do that."
        if command is not None:
            try:
                ok, said = True, command(dict(content.get("body") or {}))
            except Exception as error:  # noqa: BLE001 - whatever went wrong is told to the person who pressed the button.
                said = f"{type(error).__name__}: {error}"
        self._widget.tell({"op": "said", "id": content.get("id"), "ok": ok, "said": said})


class _Markups:
    """The sections of a view as markup, and which of them changed."""

    def __init__(self, sections: tuple[str, ...], view: View) -> None:
        self.now = {section: render_section(section, view) for section in sections}

    def changed(self, view: View) -> list[str]:
        found = []
        for section, before in self.now.items():
            markup = render_section(section, view)
            if markup != before:
                self.now[section] = markup
                found.append(section)
        return found


class WidgetSurface:
    """One ``ipywidgets.HTML`` for each section, stacked in a card, with a button where there is something to do.
    Raises ImportError when ipywidgets is not installed."""

    def __init__(self, sections: tuple[str, ...], view: View, on_stop: Callable[[], None] | None) -> None:
        import ipywidgets  # Optional: without it panels are HTML.

        self._markups = _Markups(sections, view)
        self._sections = {section: ipywidgets.HTML(value=markup) for section, markup in self._markups.now.items()}
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

    def update(self, view: View) -> int:
        """One comm message for a changed section; it leaves at once, also while the main thread is busy."""
        changed = self._markups.changed(view)
        for section in changed:
            self._sections[section].value = self._markups.now[section]
        return len(changed)

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


class HtmlSurface:
    """The whole panel as ``text/html``, replaced in place. For kernels without ipywidgets."""

    def __init__(self, sections: tuple[str, ...], view: View, replace: Callable[[str], None]) -> None:
        self._markups = _Markups(sections, view)
        self._replace = replace

    def mime_bundle(self) -> dict[str, Any]:
        """Nothing beyond the HTML that every panel carries."""
        return {}

    def update(self, view: View) -> int:
        """One update_display_data message with the whole card."""
        if not self._markups.changed(view):
            return 0
        self._replace(STYLE_ELEMENT + f'<div class="raybook-card">{"".join(self._markups.now.values())}</div>')
        return 1

    def note_busy(self, busy: bool) -> None:
        """No buttons here."""

    def close(self) -> None:
        """Nothing is held."""


class TextSurface:
    """Nothing moves: text at the start, text at the end."""

    def mime_bundle(self) -> dict[str, Any]:
        """Nothing beyond the text."""
        return {}

    def update(self, view: View) -> int:
        """Not shown until the end."""
        return 0

    def note_busy(self, busy: bool) -> None:
        """No buttons here."""

    def close(self) -> None:
        """Nothing is held."""
