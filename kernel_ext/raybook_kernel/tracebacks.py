"""Tracebacks: raybook's errors as a cell shows them: the user's frames by cell, everybody else's left out.

The errors bring their own text (``_render_traceback_``: remote frames first, one line on worker and node, then where
this notebook asked). This only turns temporary file names into cells and drops the frames of IPython itself. Pure but
for ``register``.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import Any

from IPython.core.interactiveshell import InteractiveShell

from raybook.exceptions import RayError, RayTaskError

_FRAME = re.compile(r'^(?P<indent>[ |]*)  File "(?P<file>.+)", line (?P<line>\d+)(?P<rest>, in .*)?$')
_ERROR = re.compile(r"^[A-Za-z_][\w.]*(Error|Exception|Interrupt|Exit|Warning|Iteration)\b(:|$)")
_MACHINERY = re.compile(r"/(IPython|ipykernel|traitlets|tornado)/|/asyncio/")
RED, RESET = "\x1b[1;31m", "\x1b[0m"
"""IPython's own colours for an error's name."""
RUN_AGAIN = "%ray_rerun runs this task in the kernel, with its arguments; %debug then looks around in it."


def readable(lines: Iterable[str], cell_of: Callable[[str], str | None]) -> list[str]:
    """The lines, with ``Cell In[4], line 3, in f`` for a cell's frames and without the frames of the notebook's
    machinery. cell_of: file name → "In[4]", None for a file that is no cell."""
    shown: list[str] = []
    dropping = ""
    for line in (part for text in lines for part in text.split("\n")):
        frame = _FRAME.match(line)
        if frame is None:
            if dropping and line.startswith(dropping):
                continue
            dropping = ""
            shown.append(_coloured(line))
        elif _MACHINERY.search(frame["file"]):
            dropping = frame["indent"] + "    "
        else:
            dropping = ""
            cell = cell_of(frame["file"])
            place = f"Cell {cell}" if cell else f'File "{frame["file"]}"'
            shown.append(f"{frame['indent']}  {place}, line {frame['line']}{frame['rest'] or ''}")
    return shown


def _coloured(line: str) -> str:
    match = _ERROR.match(line)
    if match is None:
        return line
    name = match[0].rstrip(":")
    return f"{RED}{name}{RESET}{line[len(name) :]}"


def register(shell: InteractiveShell, can_run_again: Callable[[], bool]) -> None:
    """Show every error of raybook's through ``readable``. can_run_again: whether a failed task is kept for reruns."""

    def cell_of(filename: str) -> str | None:
        named = shell.compile.format_code_name(filename)
        return named[1] if named else None

    def show(self: InteractiveShell, kind: type, error: Any, trace: Any, tb_offset: int | None = None) -> list[str]:
        lines = readable(error._render_traceback_(), cell_of)
        if isinstance(error, RayTaskError) and not error.actor_id and can_run_again():
            lines.append(RUN_AGAIN)
        self._showtraceback(kind, error, lines)
        return lines

    shell.set_custom_exc((RayError,), show)
