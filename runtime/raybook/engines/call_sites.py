"""Call sites: which line of user code made a task, a call or an object, for memory reports.

A line is looked up once and remembered by its code and position, so that a loop pays for a look at one frame and two
look-ups. In a notebook a line is named by its cell (``In[3]:2``), else by file, function and line.
On in IPython, off elsewhere; ``RAYBOOK_RECORD_REF_CREATION_SITES`` (or Ray's name) says 1 or 0.
Cost: 0.5 µs for each submission (benchmarks/call_sites.py).
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from time import time as now_s
from types import CodeType
from typing import Any

from raybook.core.owner.records import TaskRecord

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__))) + os.sep
FRAMES_BETWEEN = 3
"""From here to user code: our caller, the engine's method, the API's verb."""
SITES_MAX = 10_000
"""Lines remembered: code that is made anew for each call must not fill memory."""
TASK, CALL, PUT = "(task call)", "(actor call)", "(put object)"
OFF, ON = 0, 1

_getframe = sys._getframe


class CallSites:
    """One per engine."""

    def __init__(self) -> None:
        self._known: dict[tuple[int, int], tuple[CodeType, str]] = {}

    def stamp(self, record: TaskRecord) -> None:
        """Note on a new task or call when it was submitted, and from where."""
        record.submitted_s = now_s()
        record.call_site = self._here(CALL if record.actor_id else TASK)

    def of_put(self) -> str:
        """Where the ``put`` stands that is under way."""
        return self._here(PUT)

    def _here(self, kind: str) -> str:
        frame = _getframe(FRAMES_BETWEEN + 1)
        code = frame.f_code
        while code.co_filename.startswith(ROOT) and frame.f_back is not None:
            frame = frame.f_back
            code = frame.f_code
        # By identity: to hash a code object takes longer than all the rest. It is kept, so its id is not another's.
        known = self._known.get((id(code), frame.f_lasti))
        if known is None:
            if len(self._known) >= SITES_MAX:
                self._known.clear()
            known = self._known[id(code), frame.f_lasti] = (code, f"{kind} {_place(code, frame.f_lineno)}")
        return known[1]


def recorder(switch: int) -> tuple[Callable[[TaskRecord], None], Callable[[], str]]:
    """(stamp, of_put) by the configuration: 1 on, 0 off, else on when this process is an IPython shell."""
    if switch == ON or (switch != OFF and _shell() is not None):
        sites = CallSites()
        return sites.stamp, sites.of_put
    return _stamp_time, _nowhere


def _stamp_time(record: TaskRecord) -> None:
    record.submitted_s = now_s()


def _nowhere() -> str:
    return ""


def _place(code: CodeType, line: int) -> str:
    cell = _cell(code.co_filename)
    if cell:
        return f"{cell}:{line}"
    return f"{code.co_filename}:{code.co_name}:{line}"


def _cell(filename: str) -> str:
    """``In[3]`` for the file that IPython says a cell is."""
    shell = _shell()
    names: dict[str, Any] = getattr(getattr(shell, "compile", None), "_filename_map", {})
    number = names.get(filename)
    return "" if number is None else f"In[{number}]"


def _shell() -> Any:
    """IPython's, when this process is one. Not imported: who runs it has it."""
    ipython = sys.modules.get("IPython")
    get_ipython = getattr(ipython, "get_ipython", None)
    return get_ipython() if get_ipython is not None else None
