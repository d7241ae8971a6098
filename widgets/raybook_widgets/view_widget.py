"""The view under a cell as an anywidget: the core of the front end travels with it, states come as messages.

Its traits only say what it is about; a page that knows raybook's server fetches the state itself. What a person presses in
it comes in on whichever thread the front end chose, so it is handed on and answered later. Raises ImportError where
anywidget or the built view is missing.
"""

from __future__ import annotations

import pathlib
from collections.abc import Callable
from typing import Any

import anywidget
import traitlets

CELL_VIEW = pathlib.Path(__file__).parent / "static" / "cell.js"


def is_built() -> bool:
    """Whether this install has the view; one made without Node.js has none."""
    return CELL_VIEW.is_file()


class ViewWidget(anywidget.AnyWidget):  # type: ignore[misc]
    """One view. ``on_message``: called with what the page sends."""

    _esm = CELL_VIEW if CELL_VIEW.is_file() else "export default {}"
    cluster_id = traitlets.Unicode("").tag(sync=True)
    run_id = traitlets.Unicode("").tag(sync=True)
    panels = traitlets.List(traitlets.Unicode()).tag(sync=True)
    cell = traitlets.Unicode("").tag(sync=True)
    kernel_id = traitlets.Unicode("").tag(sync=True)
    commands = traitlets.List(traitlets.Unicode()).tag(sync=True)

    def __init__(self, on_message: Callable[[dict[str, Any]], None], **traits: Any) -> None:
        super().__init__(**traits)
        self.on_msg(lambda widget, content, buffers: on_message(content))
        self.route_by_header()

    def __repr__(self) -> str:
        return f"RayView({', '.join(self.panels)})"

    def tell(self, message: dict[str, Any]) -> None:
        """One comm message, from any thread; it leaves at once."""
        self.send(message)
        self.route_by_header()

    def route_by_header(self) -> None:
        """ipykernel 7.4 sends a message of the page to the shell that last published on the comm: the busy main one.
        Without that route it follows the front end's own choice, a subshell that is free (measured: NOTEBOOK.md §4.1)."""
        if getattr(self.comm, "_reply_subshell_for", None) is not None:
            self.comm._reply_subshell_for = None
