"""Rows as a table of characters: how a dataset whose columns are known shows itself. Ray 2.60's form.

shape: (3, 1)
╭───────╮
│ id    │
│ ---   │
│ int64 │
╰───────╯
(Dataset isn't materialized)
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

ROWS_MAX = 10
"""Rows that are shown of a materialized dataset; of more, as many from its beginning and its end together."""
HEAD_ROWS = 5
CELL_WIDTH_MAX = 40
GAP = "…"


def rows_to_show(count: int) -> tuple[int, int]:
    """How many rows from the beginning, and how many from the end."""
    return (count, 0) if count <= ROWS_MAX else (HEAD_ROWS, ROWS_MAX - HEAD_ROWS)


def table_text(
    names: Sequence[str],
    types: Sequence[Any],
    count: int | None,
    label: str | None,
    rows: tuple[list[dict[str, Any]], list[dict[str, Any]]] | None,
) -> str:
    """The whole text. count: of rows, None where it is not known. label: the dataset's name. rows: from the beginning and
    from the end; None when it is not materialized."""
    head, tail = rows or ([], [])
    heading = [[cell(name) for name in names], ["---"] * len(names), [cell(_type_name(kind)) for kind in types]]
    body = [[cell(row.get(name)) for name in names] for row in head]
    if head and tail:
        body.append([GAP] * len(names))
    body += [[cell(row.get(name)) for name in names] for row in tail]
    widths = [max(len(line[index]) for line in [*heading, *body]) for index in range(len(names))]
    lines = [_border("╭┬╮─", widths), *(_line(line, widths) for line in heading)]
    if body:
        lines += [_border("╞╪╡═", widths), *(_line(line, widths) for line in body)]
    lines.append(_border("╰┴╯─", widths))
    known = "?" if count is None else count
    end = "(Dataset isn't materialized)" if rows is None else f"(Showing {len(head) + len(tail)} of {known} rows)"
    return "\n".join([*([f"name: {label}"] if label else []), f"shape: ({known}, {len(names)})", *lines, end])


def cell(value: Any) -> str:
    """A value in one line, cut to `CELL_WIDTH_MAX`."""
    text = str(value.item() if isinstance(value, np.generic) else value).replace("\n", " ").replace("\r", " ")
    return text if len(text) <= CELL_WIDTH_MAX else text[: CELL_WIDTH_MAX - 1] + GAP


def _type_name(kind: Any) -> str:
    return kind.__name__ if isinstance(kind, type) else str(kind)


def _border(signs: str, widths: Sequence[int]) -> str:
    """signs: at the left, between columns, at the right, and in between."""
    return signs[0] + signs[1].join(signs[3] * (width + 2) for width in widths) + signs[2]


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    return "│" + "┆".join(f" {text.ljust(width)} " for text, width in zip(cells, widths, strict=True)) + "│"
