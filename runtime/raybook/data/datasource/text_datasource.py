"""Text files, a row a line, in the column `text`."""

from __future__ import annotations

import codecs
from collections.abc import Iterator
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from raybook.data.block import Block
from raybook.data.datasource.file_based_datasource import FileBasedDatasource
from raybook.data.datasource.pieces import line_pieces

LINE_SAFE = frozenset({"utf-8", "ascii", "iso8859-1"})
"""Encodings in which the byte 10 is a line's end and nothing else."""


class TextDatasource(FileBasedDatasource):
    """encoding: of the files. drop_empty_lines: leave out lines of blanks alone."""

    def __init__(self, paths: Any, *, drop_empty_lines: bool = True, encoding: str = "utf-8", **file_args: Any) -> None:
        self.drop_empty_lines, self.encoding = drop_empty_lines, codecs.lookup(encoding).name
        super().__init__(paths, **file_args)

    def _read_stream(self, f: pa.NativeFile, path: str) -> Iterator[Block]:
        pieces = line_pieces(f) if self.encoding in LINE_SAFE else iter([f.readall()])
        ended = True
        for piece in pieces:
            text = self._decoded(piece, path)
            ended = text.endswith("\n")
            yield self._rows(text.removesuffix("\n"))
        if ended and not self.drop_empty_lines:
            # What stands behind the last line's end is a line, too, as `split` sees it.
            yield self._rows("")

    def _decoded(self, piece: bytes, path: str) -> str:
        try:
            return piece.decode(self.encoding)
        except UnicodeDecodeError as error:
            raise ValueError(
                f"{path!r} is no text in {self.encoding}: {error}. Pass encoding=... to read_text, or read it with "
                "read_binary_files."
            ) from error

    def _rows(self, text: str) -> pa.Table:
        lines = pa.array(text.split("\n"), pa.string())
        if self.drop_empty_lines:
            lines = lines.filter(pc.not_equal(pc.utf8_trim_whitespace(lines), ""))
        return pa.table({"text": lines})
