"""JSON files: an object a line, or one array of objects (or one object) a file.

Lines are read in pieces cut at line ends, so that a file may be larger than memory; each piece has the columns that its
own lines have. Arrays are read whole.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pyarrow as pa
from pyarrow import json as pajson

from raybook.data.batches import from_rows
from raybook.data.block import Block
from raybook.data.datasource.file_based_datasource import FileBasedDatasource
from raybook.data.datasource.pieces import line_pieces

JSON_FILE_EXTENSIONS = [f"{name}{codec}" for codec in ("", ".gz", ".br", ".zst", ".lz4") for name in ("json", "jsonl")]


class JSONDatasource(FileBasedDatasource):
    """lines: every line is an object, and nothing else is tried. arrow_json_args: `read_options`, `parse_options` of
    pyarrow.json."""

    _FILE_EXTENSIONS = JSON_FILE_EXTENSIONS

    def __init__(
        self, paths: Any, arrow_json_args: dict[str, Any] | None = None, lines: bool = False, **file_args: Any
    ) -> None:
        super().__init__(paths, **file_args)
        self.arrow_json_args = dict(arrow_json_args or {})
        self.read_options = self.arrow_json_args.pop("read_options", None)
        self.lines = lines

    def _encoding_ratio(self) -> float:
        return 1.0

    def _read_stream(self, f: pa.NativeFile, path: str) -> Iterator[Block]:
        pieces = line_pieces(f)
        first = next(pieces, b"")
        start = first[:1024].lstrip()
        if not first.strip():
            return
        if not self.lines and start.startswith(b"["):
            yield _whole(first + b"".join(pieces), path)
            return
        try:
            yield self._lines(first)
        except pa.ArrowInvalid as error:
            # An object written over several lines, perhaps.
            if self.lines:
                raise _unreadable(path, error) from error
            yield _whole(first + b"".join(pieces), path, error)
            return
        for piece in pieces:
            try:
                yield self._lines(piece)
            except pa.ArrowInvalid as error:
                raise _unreadable(path, error) from error

    def _lines(self, piece: bytes) -> pa.Table:
        source = pa.BufferReader(piece)
        if self.read_options is not None:
            return pajson.read_json(source, read_options=self.read_options, **self.arrow_json_args)
        # One block, so that no object lies across the end of one.
        options = pajson.ReadOptions(use_threads=False, block_size=max(len(piece), 1))
        return pajson.read_json(source, read_options=options, **self.arrow_json_args)


def _whole(data: bytes, path: str, earlier: Exception | None = None) -> pa.Table:
    try:
        found = json.loads(data)
    except ValueError as error:
        raise _unreadable(path, earlier or error) from error
    rows = found if isinstance(found, list) else [found]
    if any(not isinstance(row, dict) for row in rows):
        kinds = sorted({type(row).__name__ for row in rows})
        raise ValueError(
            f"Failed to read JSON file: {path}. Its rows must be objects, and there are values of {kinds}."
        )
    return from_rows(rows)


def _unreadable(path: str, error: Exception) -> ValueError:
    return ValueError(
        f"Failed to read JSON file: {path}. It must have one object a line, or be one array of objects. The parser "
        f"says: {error}"
    )
