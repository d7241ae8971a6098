"""The stop button of the ipywidgets rung."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


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
