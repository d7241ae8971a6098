"""Displays: how raybook's own objects look as a cell's result. By type name, so nothing is imported."""

from __future__ import annotations

from typing import Any

from IPython.core.interactiveshell import InteractiveShell

from raybook_kernel.session import session_of


def register(shell: InteractiveShell) -> None:
    """The context that ``raybook.init()`` returns shows the live cluster panel when it is a cell's last value."""
    session = session_of(shell)

    def show_context(context: Any) -> None:
        session.follow()
        session.show()

    if shell.display_formatter is None:
        return
    formatter = shell.display_formatter.ipython_display_formatter
    formatter.for_type_by_name("raybook.api.ray_context", "RayContext", show_context)
