"""Panel: some sections of a view on one place of a page, from first display to the final HTML that a file keeps.

Decides on which surface it is shown. Knows nothing of threads or of where views come from. Invariant: after ``finish``
nothing is sent any more.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable
from typing import Any

from raybook.observe import View
from raybook_widgets.channel import Channel, ParentHeader, message_id
from raybook_widgets.preferences import Preferences
from raybook_widgets.render import SECTIONS, render_document, render_text
from raybook_widgets.subject import Command, Subject
from raybook_widgets.surface import HtmlSurface, Surface, TextSurface, ViewSurface, WidgetSurface

Actions = Callable[[Callable[[], None]], None]
"""Lets the panels' thread do something."""


class Panel:
    """A live picture of the cluster under one cell. sections: names of ``SECTIONS``, stacked in that order.
    on_stop: what the stop button does, None for no button. experiment_id: the one sweep that a Tune panel is about,
    None for all. cluster_id: of the registry. commands: what its buttons may do through the kernel."""

    def __init__(
        self,
        sections: tuple[str, ...],
        channel: Channel,
        preferences: Preferences,
        on_stop: Callable[[], None] | None = None,
        experiment_id: str | None = None,
        cluster_id: str = "",
        commands: dict[str, Command] | None = None,
        hand_on: Actions | None = None,
    ) -> None:
        self.sections = tuple(section for section in SECTIONS if section in sections)
        self.experiment_id = experiment_id
        self.is_finished = False
        self._channel = channel
        self._preferences = preferences
        self._on_stop = on_stop
        self._display_id = f"raybook-{uuid.uuid4().hex}"
        self._parent: ParentHeader = {}
        self._cluster_id = cluster_id
        self._commands = commands or {}
        self._hand_on = hand_on
        self._surface: Surface = TextSurface()

    def __repr__(self) -> str:
        name = "cluster" if self.sections == SECTIONS else ", ".join(self.sections)
        return f"RayPanel({name})"

    def show(self, view: View, parent: ParentHeader | None = None) -> None:
        """Display it: under the running cell, or, from another thread, under the one that ``parent`` names."""
        view = self._narrowed(view)
        self._parent = parent or self._channel.parent()
        bundle: dict[str, Any] = {"text/plain": repr(self)}
        if self._preferences.interactive:
            subject = self._subject()
            self._surface = self._make_surface(subject, view)
            bundle["text/html"] = render_document(view, self.sections)
            bundle.update(subject.mime_bundle())
            bundle.update(self._surface.mime_bundle())
        self._channel.display(bundle, self._display_id, parent=parent)
        self._surface.update(view)

    def is_under(self, parent: ParentHeader) -> bool:
        """Whether it is shown under the cell that ``parent`` names."""
        return bool(parent) and message_id(self._parent) == message_id(parent)

    def update(self, view: View) -> int:
        """Send what changed. Returns how many messages that took."""
        return 0 if self.is_finished else self._surface.update(self._narrowed(view))

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
        bundle: dict[str, Any] = {"text/plain": render_text(view, self.sections) or repr(self)}
        if self._preferences.interactive:
            bundle["text/html"] = render_document(view, self.sections)
            if view.cluster_state == "LEFT":
                # It lives on: a page that reaches it past the kernel goes on showing it.
                bundle.update(self._subject().mime_bundle())
        self._channel.display(bundle, self._display_id, update=True, parent=self._parent)
        self._surface.close()

    def _subject(self) -> Subject:
        return Subject(
            panels=self.sections,
            cluster_id=self._cluster_id,
            run_id=self.experiment_id or "",
            # The panel of a whole cluster is about all cells of its notebook.
            cell="" if "cluster" in self.sections else self._channel.cell_of(self._parent),
            kernel_id=self._channel.kernel_id,
            commands=self._commands,
        )

    def _make_surface(self, subject: Subject, view: View) -> Surface:
        if self._preferences.rich_view and self._hand_on is not None:
            try:
                return ViewSurface(subject, self._hand_on)
            except ImportError:
                pass  # The next rung shows the same numbers.
        try:
            return WidgetSurface(self.sections, view, self._on_stop)
        except ImportError:
            return HtmlSurface(self.sections, view, self._replace_html)

    def _replace_html(self, markup: str) -> None:
        bundle = {"text/plain": repr(self), "text/html": markup}
        self._channel.display(bundle, self._display_id, update=True, parent=self._parent)

    def _narrowed(self, view: View) -> View:
        return view if self.experiment_id is None else view.with_only_experiment(self.experiment_id)
