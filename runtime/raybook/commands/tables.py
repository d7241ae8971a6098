"""Tables: rows on a terminal, or as JSON for programs. Into a pipe nothing is cut to a width."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from typing import Any

import click

from raybook.base.facts import Row

PIPE_WIDTH = 400
BYTES = ("KiB", "MiB", "GiB", "TiB")


def show(rows: list[Row], title: str, style: str) -> None:
    """Print rows. style: "table" or "json"; a table leaves out columns that are empty throughout."""
    if style == "json":
        click.echo(json.dumps(rows, indent=1, default=str))
        return
    if not rows:
        click.echo(f"{title}: none.")
        return
    from rich.console import Console
    from rich.table import Table

    table = Table(title=f"{title} ({len(rows)})", title_justify="left", box=None, pad_edge=False, header_style="bold")
    columns = [name for name in rows[0] if any(row.get(name) not in ("", None, {}) for row in rows)]
    for name in columns:
        table.add_column(name, no_wrap=name.endswith("_id"))
    for row in rows:
        table.add_row(*(cell(name, row.get(name)) for name in columns))
    console = Console(file=sys.stdout, highlight=False, markup=False)
    if not console.is_terminal:
        console = Console(file=sys.stdout, highlight=False, markup=False, width=PIPE_WIDTH)
    console.print(table)


def cell(name: str, value: Any) -> str:
    """One value for people."""
    if value is None:
        return ""
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {amount(key, part)}" for key, part in value.items())
    if name.endswith("_bytes"):
        return bytes_text(value)
    return str(value)


def amount(name: str, value: Any) -> str:
    """A resource's amount, or "used/total"."""
    if isinstance(value, list):
        return "/".join(amount(name, part) for part in value)
    return bytes_text(value) if "memory" in name else f"{value:g}"


def bytes_text(value: float) -> str:
    """ "1.5 MiB"."""
    if value < 1024:
        return f"{value:g} B"
    for unit in BYTES:
        value /= 1024
        if value < 1024 or unit == BYTES[-1]:
            break
    return f"{value:.1f} {unit}"
