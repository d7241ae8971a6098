"""Panel: some sections of a view on one place of a page, from first display to the final HTML that a file keeps.

Decides what is sent: a section travels only when its markup changed. Knows nothing of threads or of where views come
from. Invariant: after ``finish`` nothing is sent any more.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable
from typing import Any

from raybook.observe import View
from raybook_widgets.channel import Channel, ParentHeader
from raybook_widgets.preferences import Preferences
from raybook_widgets.render import SECTIONS, render_document, render_section, render_text
from raybook_widgets.surface import HtmlSurface, Surface, TextSurface, WidgetSurface


class Panel:
    """A live picture of the cluster under one cell. sections: names of ``SECTIONS``, stacked in that order.
    on_stop: what the stop button does, None for no button. experiment_id: the one sweep that a Tune panel is about,
    None for all."""

    def __init__(
        self,
        sections: tuple[str, ...],
        channel: Channel,
        preferences: Preferences,
        on_stop: Callable[[], None] | None = None,
        experiment_id: str | None = None,
    ) -> None:
        self.sections = tuple(section for section in SECTIONS if section in sections)
        self.experiment_id = experiment_id
        self.is_finished = False
        self._channel = channel
        self._preferences = preferences
        self._on_stop = on_stop
        self._display_id = f"raybook-{uuid.uuid4().hex}"
        self._parent: ParentHeader = {}
        self._markups: dict[str, str] = {}
        self._surface: Surface = TextSurface()

    def __repr__(self) -> str:
        name = "cluster" if self.sections == SECTIONS else ", ".join(self.sections)
        return f"RayPanel({name})"

    def show(self, view: View, parent: ParentHeader | None = None) -> None:
        """Display it: under the running cell, or, from another thread, under the one that ``parent`` names."""
        view = self._narrowed(view)
        self._parent = parent or self._channel.parent()
        self._markups = {section: render_section(section, view) for section in self.sections}
        bundle: dict[str, Any] = {"text/plain": repr(self)}
        if self._preferences.interactive:
            self._surface = self._make_surface()
            bundle["text/html"] = render_document(view, self.sections)
            bundle.update(self._surface.mime_bundle())
        self._channel.display(bundle, self._display_id, parent=parent)

    def is_under(self, parent: ParentHeader) -> bool:
        """Whether it is shown under the cell that ``parent`` names."""
        return bool(parent) and _message_id(self._parent) == _message_id(parent)

    def update(self, view: View) -> int:
        """Send the sections that changed. Returns how many messages that took."""
        if self.is_finished:
            return 0
        view = self._narrowed(view)
        sent = 0
        for section in self.sections:
            markup = render_section(section, view)
            if markup != self._markups.get(section):
                self._markups[section] = markup
                self._surface.update(section, markup)
                sent += 1
        return sent

    def note_busy(self, busy: bool) -> None:
        """Whether a cell runs, for the buttons."""
        if not self.is_finished:
            self._surface.note_busy(busy)

    def finish(self, view: View) -> None:
        """Replace the live panel by its last state as HTML and text, which a saved notebook keeps. Idempotent."""
        if self.is_finished:
            return
        view = self._narrowed(view)
        self.is_finished = True
        bundle = {"text/plain": render_text(view, self.sections) or repr(self)}
        if self._preferences.interactive:
            bundle["text/html"] = render_document(view, self.sections)
        self._channel.display(bundle, self._display_id, update=True, parent=self._parent)
        self._surface.close()

    def _make_surface(self) -> Surface:
        try:
            return WidgetSurface(self._markups, self._on_stop)
        except ImportError:
            return HtmlSurface(self._markups, self._replace_html)

    def _replace_html(self, markup: str) -> None:
        bundle = {"text/plain": repr(self), "text/html": markup}
        self._channel.display(bundle, self._display_id, update=True, parent=self._parent)

    def _narrowed(self, view: View) -> View:
        return view if self.experiment_id is None else view.with_only_experiment(self.experiment_id)


def _message_id(parent: ParentHeader) -> str:
    """A parent may be a whole message or only its header."""
    return str((parent.get("header") or parent).get("msg_id", ""))
