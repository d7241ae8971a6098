"""``python -m raybook.observe labextension/`` writes what the front end is generated from: the view-model's JSON schema
and its TypeScript. Without a folder, the JSON schema goes to standard output."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from raybook.observe.schema import json_schema
from raybook.observe.typescript import typescript


def generated() -> dict[str, str]:
    """Path under ``labextension/`` → its text."""
    return {
        "schema/observe.json": json.dumps(json_schema(), indent=2, sort_keys=True) + "\n",
        "src/core/schema.ts": typescript(),
    }


def main(arguments: list[str]) -> int:
    """Exit status 0. Raises OSError when a file cannot be written."""
    files = generated()
    if not arguments:
        sys.stdout.write(files["schema/observe.json"])
    for name, text in files.items() if arguments else ():
        target = Path(arguments[0]) / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
