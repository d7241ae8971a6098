"""``python -m raybook.observe [FILE]``: write the view-model's JSON schema to FILE, or to standard output."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from raybook.observe.schema import json_schema


def main(arguments: list[str]) -> int:
    """Exit status 0. Raises OSError when the file cannot be written."""
    text = json.dumps(json_schema(), indent=2, sort_keys=True) + "\n"
    if arguments:
        Path(arguments[0]).write_text(text, encoding="utf-8")
    else:
        sys.stdout.write(text)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
