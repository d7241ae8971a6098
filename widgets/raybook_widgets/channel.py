"""Channel: messages from any thread to the output of a given cell.

The main thread's usual calls (print, display) go to the cell that runs *now*; a line that belongs to an earlier cell
needs that cell's parent header in its own message. Works the same on ipykernel 6 and 7; without a kernel (a terminal)
it prints. Source: NOTEBOOK.md §2.8, §4.1 (comm-out and display from a thread are dependable on every version).
"""

from __future__ import annotations

import threading
from typing import Any

from IPython.core.interactiveshell import InteractiveShell

ParentHeader = dict[str, Any]


def message_id(parent: ParentHeader) -> str:
    """A parent may be a whole message or only its header."""
    return str((parent.get("header") or parent).get("msg_id", ""))


class Channel:
    """The way out of one shell."""

    def __init__(self, shell: InteractiveShell) -> None:
        self._shell = shell
        self._kernel: Any = getattr(shell, "kernel", None)
        self._cell: tuple[str, str] = ("", "")
        self.kernel_id = ""
        """What the Jupyter server calls this kernel; set by whoever knows."""

    def parent(self) -> ParentHeader:
        """The request that the running cell answers (of the last one, between cells); {} without a kernel."""
        return dict(getattr(self._shell, "parent_header", None) or {})

    def note_cell(self, name: str) -> None:
        """The running cell is called so: "In[3]"."""
        self._cell = (message_id(self.parent()), name)

    def cell_of(self, parent: ParentHeader) -> str:
        """The name of the cell that ``parent`` names, if it is the one that runs or ran last; else ""."""
        known, name = self._cell
        return name if known and message_id(parent) == known else ""

    def display(
        self, bundle: dict[str, Any], display_id: str, update: bool = False, parent: ParentHeader | None = None
    ) -> None:
        """Show a bundle, or replace the one shown under that id. ``parent`` None: under the running cell, through
        IPython's own path, so that capturing works."""
        if parent is None or self._kernel is None:
            self._shell.display_pub.publish(bundle, transient={"display_id": display_id}, update=update)
            return
        content = {"data": bundle, "metadata": {}, "transient": {"display_id": display_id}}
        self._send("update_display_data" if update else "display_data", content, parent)

    def stream(self, text: str, name: str, parent: ParentHeader) -> None:
        """Text on standard output or error of the cell that ``parent`` names."""
        if self._kernel is None:
            print(text, end="", flush=True)
            return
        self._send("stream", {"name": name, "text": text}, parent)

    def is_closing(self) -> bool:
        """Whether the kernel is ending, so that failing to send is nobody's fault."""
        return bool(getattr(self._shell, "exit_now", False)) or not threading.main_thread().is_alive()

    def _send(self, kind: str, content: dict[str, Any], parent: ParentHeader) -> None:
        kernel = self._kernel
        kernel.session.send(kernel.iopub_socket, kind, content, parent=parent, ident=kind.encode())
