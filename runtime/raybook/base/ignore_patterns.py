"""Ignore patterns: which paths of a folder a list of patterns leaves out. Pure text: nothing here looks at a disk.

The patterns are those of ``.gitignore`` files: ``*`` and ``?`` stop at slashes, ``**`` does not; a slash at the end means
folders only, one elsewhere ties the pattern to the folder of its list; ``!`` takes back what an earlier line left out; of
all lines that match, the last one counts. Source: gitignore(5).
"""

from __future__ import annotations

import re
from collections.abc import Iterable


class IgnorePatterns:
    """One list, which belongs to one folder. Lines that are empty or begin with ``#`` say nothing."""

    def __init__(self, lines: Iterable[str]) -> None:
        self._rules = [rule for line in lines if (rule := _rule(line)) is not None]

    def ignores(self, path: str, is_folder: bool) -> bool:
        """Whether ``path``, relative to the list's folder and with ``/`` between its parts, is left out. Not asked about
        what lies in a folder that is left out: that goes with it. Cost: a microsecond for each line."""
        ignored = False
        for expression, takes_back, folders_only in self._rules:
            if (is_folder or not folders_only) and expression.fullmatch(path):
                ignored = not takes_back
        return ignored


def _rule(line: str) -> tuple[re.Pattern[str], bool, bool] | None:
    """(expression, whether it takes back, whether it is about folders only) of a line."""
    text = line.rstrip("\n")
    if not text.endswith("\\ "):
        text = text.rstrip()
    if not text or text.startswith("#"):
        return None
    takes_back = text.startswith("!")
    text = text.removeprefix("!")
    folders_only = text.endswith("/")
    text = text.rstrip("/")
    # A pattern without a slash, but for one at its end, is about names at any depth.
    anywhere = "/" not in text
    text = text.lstrip("/")
    if not text:
        return None
    expression = ("(?:.*/)?" if anywhere else "") + _expression(text)
    return re.compile(expression, re.DOTALL), takes_back, folders_only


def _expression(text: str) -> str:
    out = ""
    at = 0
    while at < len(text):
        if text.startswith("**/", at) and (at == 0 or text[at - 1] == "/"):
            out += "(?:.*/)?"
            at += 3
        elif text.startswith("**", at):
            out += ".*"
            at += 2
        elif text[at] == "*":
            out += "[^/]*"
            at += 1
        elif text[at] == "?":
            out += "[^/]"
            at += 1
        elif text[at] == "[" and (end := text.find("]", at + 2)) > 0:
            inside = text[at + 1 : end].replace("\\", "\\\\")
            out += f"[^{inside[1:]}]" if inside[0] in "!^" else f"[{inside}]"
            at = end + 1
        else:
            at += text[at] == "\\" and at + 1 < len(text)
            out += re.escape(text[at])
            at += 1
    return out
