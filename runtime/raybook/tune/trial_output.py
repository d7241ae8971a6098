"""Trial output: where a trial works, and the files that keep what it prints.

Changes the process's folder and its sys.stdout and sys.stderr, which a process that runs one trial at a time may do.
Invariant: folder and streams are back when the block is left.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TextIO

ORIGINAL_FOLDER_VARIABLE = "TUNE_ORIG_WORKING_DIR"


class Tee:
    """A text stream that also writes into a file."""

    def __init__(self, stream: Any, file: TextIO) -> None:
        self._stream = stream
        self._file = file

    def write(self, text: str) -> int:
        """Write to both."""
        self._file.write(text)
        return self._stream.write(text)

    def flush(self) -> None:
        """Flush both."""
        self._file.flush()
        self._stream.flush()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def log_files_of(asked: Any) -> tuple[str, str] | None:
    """Return the names (for stdout, for stderr) that RunConfig(log_to_file=...) stands for, None for no files.

    True is ("stdout", "stderr"), one name is for both. Raises ValueError for another shape.
    """
    if asked is None or asked is False:
        return None
    if asked is True:
        return "stdout", "stderr"
    if isinstance(asked, str):
        return asked, asked
    if isinstance(asked, (list, tuple)) and len(asked) == 2:
        return str(asked[0]), str(asked[1])
    raise ValueError(
        f"log_to_file must be True, the name of one file, or a pair of names for stdout and stderr, not {asked!r}."
    )


@contextlib.contextmanager
def output_to_files(folder: str, names: tuple[str, str] | None) -> Iterator[None]:
    """Keep what is printed within the block in files of the folder as well."""
    if names is None:
        yield
        return
    out_name, error_name = names
    with contextlib.ExitStack() as stack:
        out = stack.enter_context(open(Path(folder) / out_name, "a", buffering=1))
        error = (
            out if error_name == out_name else stack.enter_context(open(Path(folder) / error_name, "a", buffering=1))
        )
        stack.enter_context(contextlib.redirect_stdout(Tee(sys.stdout, out)))  # type: ignore[type-var]
        stack.enter_context(contextlib.redirect_stderr(Tee(sys.stderr, error)))  # type: ignore[type-var]
        yield


@contextlib.contextmanager
def in_folder(folder: str | None) -> Iterator[None]:
    """Work in a folder within the block; None leaves the process where it is."""
    if folder is None or not os.path.isdir(folder):
        yield
        return
    before = os.getcwd()
    os.environ.setdefault(ORIGINAL_FOLDER_VARIABLE, before)
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)
