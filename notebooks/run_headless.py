"""Run a notebook as a person would, without a browser, and print what its story ends with.

    python notebooks/run_headless.py notebooks/01_quickstart.ipynb

Prints one line a cell as it ends, then the text of every cell tagged `result` (of the last cell that printed
something when none is tagged). The notebook on disk is not touched. Exit status: 0 when every cell ran, 1 with the
failing cell's traceback when one did not.

Knows nothing of raybook: a demonstration that needed help would prove nothing.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError

CELL_TIMEOUT_S = 600


def headline(source: str) -> str:
    """The first line of a cell that is not a magic's or a comment's decoration, shortened to a terminal's width."""
    lines = [line.strip() for line in source.splitlines() if line.strip()]
    return (lines[0] if lines else "")[:72]


def text_of(outputs: list[nbformat.NotebookNode]) -> str:
    """What a terminal can show of a cell's outputs: streams, and the plain text of displayed values."""
    parts = []
    for output in outputs:
        if output.output_type == "stream" and output.name == "stdout":
            parts.append(output.text)
        elif output.output_type in ("execute_result", "display_data"):
            parts.append(output.data.get("text/plain", "") + "\n")
    return "".join(parts).strip()


def run(path: Path) -> int:
    notebook = nbformat.read(path, as_version=4)
    started = time.monotonic()
    cell_started = {}

    def on_start(cell: nbformat.NotebookNode, cell_index: int) -> None:
        cell_started[cell_index] = time.monotonic()

    def on_executed(cell: nbformat.NotebookNode, cell_index: int, execute_reply: dict) -> None:
        took_s = time.monotonic() - cell_started[cell_index]
        print(f"  [{cell_index:>2}] {took_s:6.1f} s  {headline(cell.source)}", flush=True)

    print(f"Running {path} ...", flush=True)
    client = NotebookClient(
        notebook,
        timeout=CELL_TIMEOUT_S,
        kernel_name="python3",
        resources={"metadata": {"path": str(path.parent)}},
        on_cell_start=on_start,
        on_cell_executed=on_executed,
    )
    try:
        client.execute()
    except CellExecutionError as error:
        print(error, file=sys.stderr)
        print(f"raybook: {path} stopped at the cell above; nothing after it ran.", file=sys.stderr)
        return 1

    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    tagged = [cell for cell in code if "result" in cell.metadata.get("tags", [])]
    ending = tagged or [cell for cell in code if text_of(cell.outputs)][-1:]
    print(f"Every cell ran, {time.monotonic() - started:.1f} s in all.\n")
    for cell in ending:
        print(text_of(cell.outputs))
    return 0


def main() -> int:
    parser = argparse.ArgumentParser(description="Run a notebook without a browser and print its result.")
    parser.add_argument("notebook", type=Path)
    path = parser.parse_args().notebook
    if not path.is_file():
        parser.error(f"there is no notebook at {path}.")
    return run(path)


if __name__ == "__main__":
    raise SystemExit(main())
