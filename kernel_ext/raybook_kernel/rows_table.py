"""Rows table: rows of a cluster as a cell's value: text in a terminal, a table in a notebook. Pure.

Whatever stands in a row is escaped; it may be a task's name, which anybody chose.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from raybook_widgets.markup import element, text
from raybook_widgets.style import STYLE_ELEMENT

CELL_CHARS_MAX = 60


class RowsTable:
    """columns: (key, title) pairs. note: a line below, for what is not shown. The rows can be taken out again."""

    def __init__(
        self, title: str, columns: Sequence[tuple[str, str]], rows: Iterable[Mapping[str, Any]], note: str = ""
    ) -> None:
        self.title = title
        self.columns = tuple(columns)
        self.rows = [dict(row) for row in rows]
        self.note = note

    def __len__(self) -> int:
        return len(self.rows)

    def __iter__(self) -> Any:
        return iter(self.rows)

    def __getitem__(self, index: int) -> dict[str, Any]:
        return self.rows[index]

    def __repr__(self) -> str:
        if not self.rows:
            return self.note or f"{self.title}: none."
        cells = [[title for _, title in self.columns]]
        cells += [[_cut(self._cell(row, key)) for key, _ in self.columns] for row in self.rows]
        widths = [max(len(line[column]) for line in cells) for column in range(len(self.columns))]
        lines = ["  ".join(c.ljust(w) for c, w in zip(line, widths, strict=True)).rstrip() for line in cells]
        return "\n".join([*lines, *([self.note] if self.note else [])])

    def _repr_html_(self) -> str:
        head = [element("span", text(self.title), class_="rb-title")]
        if not self.rows:
            head.append(element("span", text(self.note or "none"), class_="rb-dim"))
            return _page([element("div", head, class_="rb-head")])
        titles = element("tr", [element("th", text(title), scope="col") for _, title in self.columns])
        body = [
            element("tr", [self._html_cell(row, key) for key, _ in self.columns])
            for row in self.rows
        ]  # fmt: skip
        table = element("table", [element("thead", titles), element("tbody", body)], class_="rb-table")
        parts = [element("div", head, class_="rb-head"), element("div", table, class_="rb-scroll")]
        if self.note:
            parts.append(element("div", text(self.note), class_="rb-dim rb-small"))
        return _page(parts)

    def _html_cell(self, row: Mapping[str, Any], key: str) -> str:
        whole = self._cell(row, key)
        shown = _cut(whole)
        return element("td", text(shown), title=whole if shown != whole else None)

    @staticmethod
    def _cell(row: Mapping[str, Any], key: str) -> str:
        value = row.get(key)
        return "" if value is None else " ".join(str(value).split())


def _cut(cell: str) -> str:
    return cell if len(cell) <= CELL_CHARS_MAX else cell[: CELL_CHARS_MAX - 1] + "…"


def _page(parts: list[str]) -> str:
    return STYLE_ELEMENT + element("div", parts, class_="raybook-panel")
