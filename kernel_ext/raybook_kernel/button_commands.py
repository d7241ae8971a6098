"""Button commands: what the buttons of a view may do through this kernel, where no Jupyter server takes them.

They run on the panels' thread, so they touch neither the user's names nor IPython; what they return is told beside the
button. The server's own commands (kernel_ext/raybook_kernel/server/commands.py) have the same names and fields.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from raybook.api.own_tasks import cancel_tasks, unfinished_tasks
from raybook_kernel.cells import Cells

CommandTable = dict[str, Callable[[dict[str, Any]], str]]


def commands_of(cells: Cells) -> CommandTable:
    """The commands of a kernel whose cells these are."""

    def cancel(body: dict[str, Any]) -> str:
        wanted = str(body.get("cell") or "")
        if not wanted:
            return _told(cancel_tasks(unfinished_tasks()), "this notebook")
        for cell in cells.newest_first():
            if cell.name == wanted:
                return _told(cancel_tasks(unfinished_tasks(cell.started_s, cell.ended_s)), cell.name)
        return f"{wanted} ran too long ago to be remembered; %ray_cancel --all cancels everything."

    return {"cancel": cancel}


def _told(count: int, whose: str) -> str:
    return f"Cancelled {count:,} task{'' if count == 1 else 's'} of {whose}." if count else f"Nothing of {whose} runs."
