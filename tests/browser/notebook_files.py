"""Notebooks that the browser tests write for themselves: a list of cells in, a file out."""

from __future__ import annotations

import json
from pathlib import Path

WRITTEN = "work.ipynb"
"""The one name they have."""


def write_notebook(folder: Path, name: str, cells: list[str]) -> None:
    """A notebook of code cells that never ran."""
    code = [
        {
            "cell_type": "code",
            "id": f"cell-{number}",
            "metadata": {},
            "execution_count": None,
            "outputs": [],
            "source": source,
        }
        for number, source in enumerate(cells)
    ]
    metadata = {"kernelspec": {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"}}
    fresh = folder / f".{name}"
    fresh.write_text(json.dumps({"cells": code, "metadata": metadata, "nbformat": 4, "nbformat_minor": 5}))
    fresh.replace(folder / name)
