"""The two tools of the Makefile: the headless notebook runner and the search for leftovers."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import nbformat

REPOSITORY = Path(__file__).resolve().parents[2]
RUNNER = REPOSITORY / "notebooks" / "run_headless.py"
LEFTOVERS = REPOSITORY / "tests" / "leftovers.py"
# Holds an arena by the name raybook's has, says so, and waits to be ended.
ARENA_HOLDER = """
import mmap, os, sys
file = os.memfd_create("raybook-test"); os.truncate(file, 4096)
memory = mmap.mmap(file, 4096)
print("holding", flush=True)
sys.stdin.read()
"""


def write_notebook(path: Path, *cells: tuple[str, list[str]]) -> Path:
    notebook = nbformat.v4.new_notebook()
    for source, tags in cells:
        notebook.cells.append(nbformat.v4.new_code_cell(source, metadata={"tags": tags}))
    nbformat.write(notebook, path)
    return path


def run(*arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, *map(str, arguments)], capture_output=True, text=True, timeout=50)


def test_runner_prints_the_tagged_cell_and_leaves_the_notebook_alone(tmp_path):
    notebook = write_notebook(
        tmp_path / "story.ipynb", ("x = 6 * 7", []), ("print('best trial', x)", ["result"]), ("print('noise')", [])
    )
    before = notebook.read_bytes()

    done = run(RUNNER, notebook)

    assert done.returncode == 0, done.stderr
    assert done.stdout.rstrip().endswith("best trial 42")
    assert notebook.read_bytes() == before


def test_runner_fails_with_the_cells_error(tmp_path):
    notebook = write_notebook(tmp_path / "story.ipynb", ("1 / 0", []), ("print('never')", ["result"]))

    done = run(RUNNER, notebook)

    assert done.returncode == 1
    assert "ZeroDivisionError" in done.stderr
    assert "never" not in done.stdout


def test_a_held_arena_is_found_and_named():
    holder = subprocess.Popen(
        [sys.executable, "-c", ARENA_HOLDER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert holder.stdin is not None and holder.stdout is not None
    try:
        assert holder.stdout.readline() == "holding\n"
        found = run("-c", f"import sys; sys.path.insert(0, {str(LEFTOVERS.parent)!r}); import leftovers; "
                          f"print(*leftovers.find(0.0), sep='\\n')")  # fmt: skip
        assert f"pid {holder.pid}:" in found.stdout
    finally:
        holder.stdin.close()
        holder.wait(10)
        holder.stdout.close()
