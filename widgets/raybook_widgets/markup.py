"""HTML as text, safely: the one place where what users typed becomes markup. No colours, no layout, no widgets.

Invariant: whatever goes through ``text`` or an attribute is escaped; renderers put nothing else of a view into a page.
"""

from __future__ import annotations

import html
import json
from collections.abc import Iterable


def text(value: object) -> str:
    """Escaped for an element's content and for a quoted attribute."""
    return html.escape(str(value), quote=True)


def element(name: str, content: str | Iterable[str] = "", **attributes: object) -> str:
    """One element. ``content`` is markup already; attribute values are escaped here, underscores in their names become
    hyphens (``data_panel``), a trailing one is dropped (``class_``); None leaves an attribute out."""
    written = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{text(value)}"'
        for key, value in attributes.items()
        if value is not None
    )
    inner = content if isinstance(content, str) else "".join(content)
    return f"<{name}{written}>{inner}</{name}>"


def span(content: str, class_: str | None = None, title: str | None = None) -> str:
    """A span of escaped text."""
    return element("span", text(content), class_=class_, title=title)


def message_bytes(markup: str) -> int:
    """What this markup costs on the wire: JSON in UTF-8."""
    return len(json.dumps(markup, ensure_ascii=False).encode("utf-8", "surrogatepass"))
