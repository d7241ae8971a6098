"""The table of docs/engines.md, from what the contract's rows did on each engine.

RAYBOOK_CONTRACT_RESULTS=results.json pytest tests/contracts/engines      (``make test-ray`` does)
python tests/contracts/engines/table.py results.json docs/engines.md
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

ENGINES = ("native", "session", "ray")
FOLDER = Path(__file__).parent
BEGIN, END = "<!-- contract: begin -->", "<!-- contract: end -->"
HEADINGS = {
    "tasks": "Tasks",
    "objects": "Objects",
    "actors": "Actors",
    "places": "Places and state",
    "libraries": "Libraries",
}


def rows() -> list[str]:
    """Every row of the contract, as results name it."""
    return [
        f"{path.stem}::{name}"
        for path in sorted(FOLDER.glob("test_*.py"))
        for name in re.findall(r"^def (test_\w+)\(engine", path.read_text(), re.MULTILINE)
    ]


def sentence(row: str) -> str:
    """What a row says."""
    return row.partition("::")[2].removeprefix("test_").replace("_", " ")


def table(results: dict[str, dict[str, str]]) -> str:
    """Markdown: a row of the contract a line, under the name of its file. "—": it did not run there."""
    lines = [f"| | {' | '.join(f'`{engine}`' for engine in ENGINES)} |", "|---|" + "---|" * len(ENGINES)]
    for part, heading in HEADINGS.items():
        found = {row: said for row, said in results.items() if row.startswith(f"test_{part}::")}
        if found:
            lines.append(f"| **{heading}** | " + " | ".join("" for _ in ENGINES) + " |")
        for row, said in found.items():
            lines.append(f"| {sentence(row)} | {' | '.join(said.get(engine, '—') for engine in ENGINES)} |")
    return "\n".join(lines)


def written_into(page: str, results: dict[str, dict[str, str]]) -> str:
    """The page with the table between its marks. ValueError when it has none."""
    before, begin, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"The page has no {BEGIN} ... {END} to write between.")
    return f"{before}{BEGIN}\n{table(results)}\n{END}{after}"


if __name__ == "__main__":
    source, target = map(Path, sys.argv[1:3])
    results = json.loads(source.read_text())
    target.write_text(written_into(target.read_text(), {row: results.get(row, {}) for row in rows()}))
    print(f"Wrote the table of {target}.")
