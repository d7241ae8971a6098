"""Completer: Tab inside a magic's line offers the magic's own words and nothing else.

IPython's older hook (``complete_command``) lets Python names through beside ours, so this uses its matchers, which may
suppress all others. Source: IPython 8.6 and later, ``IPCompleter.custom_matchers``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from IPython.core.completer import SimpleCompletion, context_matcher
from IPython.core.interactiveshell import InteractiveShell


def complete_line_magic(shell: InteractiveShell, magic: str, complete: Callable[[str], list[str]]) -> None:
    """Offer ``complete(line up to the cursor)`` on lines that begin with the magic, with or without its %."""
    names = (f"%{magic}", magic)

    @context_matcher(identifier=f"raybook.{magic}")
    def match(context: Any) -> dict[str, Any]:
        line = context.text_until_cursor.lstrip()
        head, blank, _ = line.partition(" ")
        if head not in names or not blank:
            return {"completions": []}
        words = [SimpleCompletion(word, type="magic") for word in complete(line)]
        return {"completions": words, "suppress": True, "ordered": True}

    shell.Completer.custom_matchers.append(match)
