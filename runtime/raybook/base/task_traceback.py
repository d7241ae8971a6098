"""Task tracebacks: the text of an error that crosses processes, with the user's frames and none of ours.

It decides which frames are the user's and how the text reads. It knows nothing of error classes or processes.
Everything works on text and ``traceback`` records, so that the worker can write it and the driver can complete it: a
worker has no source of notebook cells, the driver does.
"""

from __future__ import annotations

import linecache
import os
import re
import traceback
from types import TracebackType

PACKAGE_DIR = os.path.dirname(os.path.dirname(os.path.abspath(__file__))) + os.sep
HEADING = "Traceback (most recent call last):\n"
FAILED_ARGUMENT = "At least one of the input arguments for this task could not be computed:"

_FRAME_LINE = re.compile(r'^(?P<indent>[ |]*)  File "(?P<file>.+)", line (?P<line>\d+)(, in .*)?$')


def is_runtime_frame(filename: str) -> bool:
    """Whether a frame belongs to raybook rather than to the user."""
    return filename.startswith(PACKAGE_DIR)


def header(name: str, pid: int | None, ip: str | None, actor_id: str = "", actor_repr: str = "") -> str:
    """``ray::name() (pid=7, ip=10.0.0.1, actor_id=.., repr=..)``: which task, in which process."""
    facts = [("pid", pid), ("ip", ip), ("actor_id", actor_id or None), ("repr", actor_repr or None)]
    known = ", ".join(f"{key}={value}" for key, value in facts if value is not None)
    return f"ray::{name}()" + (f" ({known})" if known else "")


def format_exception(error: BaseException, heading: str) -> str:
    """The traceback of ``error`` and of its causes, runtime frames dropped, ``heading`` in place of Python's own
    heading. A stack that is all ours is kept whole: then it is what there is to know. Cost: 50 µs and up (reads source
    lines).
    """
    summary = traceback.TracebackException.from_exception(error)
    _drop_runtime_frames(summary)
    lines = list(summary.format())
    own = len(lines) - 1 - lines[::-1].index(HEADING) if HEADING in lines else None
    if own is None:
        lines.insert(0, heading + "\n")
    else:
        lines[own] = heading + "\n"
    return "".join(lines).rstrip("\n")


def _drop_runtime_frames(summary: traceback.TracebackException) -> None:
    queue = [summary]
    seen = set()
    while queue:
        part = queue.pop()
        if id(part) in seen:
            continue
        seen.add(id(part))
        kept = [frame for frame in part.stack or () if not is_runtime_frame(frame.filename)]
        if kept:
            part.stack = traceback.StackSummary.from_list(kept)
        queue += [linked for linked in (part.__cause__, part.__context__) if linked is not None]
        queue += getattr(part, "exceptions", None) or []


def with_source_lines(text: str) -> str:
    """``text`` with the source lines that this process knows and the writer did not (notebook cells)."""
    lines = text.split("\n")
    completed = []
    for index, line in enumerate(lines):
        completed.append(line)
        frame = _FRAME_LINE.match(line)
        if frame is None:
            continue
        following = lines[index + 1] if index + 1 < len(lines) else ""
        if following.startswith(frame["indent"] + "    "):
            continue
        source = linecache.getline(frame["file"], int(frame["line"])).strip()
        if source:
            completed.append(f"{frame['indent']}    {source}")
    return "\n".join(completed)


def local_frames(trace: TracebackType | None) -> list[str]:
    """The user's frames of a traceback of this process, as lines: where the notebook met the error."""
    frames = [frame for frame in traceback.extract_tb(trace) if not is_runtime_frame(frame.filename)]
    return "".join(traceback.format_list(frames)).rstrip("\n").split("\n") if frames else []
